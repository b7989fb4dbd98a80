"""The gates: configuration of the checkers, and the audit of packages."""
