"""The bus side of the session loop."""
