"""The bus side of the router."""
