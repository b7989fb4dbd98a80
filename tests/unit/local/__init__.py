"""The local supervisor's pure parts."""
