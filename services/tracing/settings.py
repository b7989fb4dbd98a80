"""Settings of the tracing service: what is its own is in OpenTelemetry's standard variables."""

from __future__ import annotations

from shared.settings import BusSettings


class TracingSettings(BusSettings):
    """Where the log is."""
