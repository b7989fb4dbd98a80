"""The bus's users: keys, the server's configuration of them, certificates, the deploy step."""
