"""The pure parts of the trials."""
