"""The outside of the tracing service: the log, and the collector."""
