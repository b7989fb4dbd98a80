"""Decisions of the tracing service: which spans a task has, and what stands in them."""
