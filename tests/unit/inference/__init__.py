"""The pure parts of the inference service."""
