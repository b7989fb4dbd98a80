"""Decisions of retrieval: where to cut, how to name, what may be seen. No IO, no clock."""
