"""The tracing service: tells OpenTelemetry what the log says."""
