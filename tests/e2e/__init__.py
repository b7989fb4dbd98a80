"""The whole running system."""
