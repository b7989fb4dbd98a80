"""The clients that people use, unmodified, against the running system."""
