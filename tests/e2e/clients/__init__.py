"""The official clients of other people against a running system."""
