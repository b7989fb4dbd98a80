"""Decisions of the tools service: what a tool is, what it may be given, how results read."""
