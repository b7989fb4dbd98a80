"""Spans on their way out, over OTLP/HTTP by OpenTelemetry's SDK, set up by its own variables.

Off where `OTEL_EXPORTER_OTLP_ENDPOINT` is not set. The SDK is loaded where spans are wanted only:
it takes a fifth of a second and several megabytes, and most processes make none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import Permanent

if TYPE_CHECKING:
    from shared.otlp.sdk import Live, Outbox


class OtelSettings(BaseSettings):
    """The standard variables, as far as it is not the SDK that reads them."""

    model_config = SettingsConfigDict(env_prefix="OTEL_", extra="ignore", frozen=True)

    exporter_otlp_endpoint: str = ""
    exporter_otlp_traces_endpoint: str = ""
    sdk_disabled: str = ""
    traces_exporter: str = "otlp"
    service_name: str = ""
    instrumentation_genai_capture_message_content: str = ""

    @property
    def wanted(self) -> bool:
        """Whether there is somewhere to send spans to, and nobody has forbidden it."""
        there = self.exporter_otlp_endpoint or self.exporter_otlp_traces_endpoint
        off = self.sdk_disabled.strip().lower() == "true" or self.traces_exporter == "none"
        return bool(there) and not off

    @property
    def content(self) -> bool:
        """Whether spans may hold what people, models and tools have said."""
        chosen = self.instrumentation_genai_capture_message_content.strip().lower()
        return chosen in {"true", "span_only", "span_and_event"}


def live_spans() -> Live | None:
    """What sends the spans of this process; None where nobody wants them.

    Raises:
        Permanent: `invalid_setting` where a standard variable cannot be read.
    """
    settings = OtelSettings()
    if not settings.wanted:
        return None
    from shared.otlp.sdk import Live

    return _made(lambda: Live(settings))


def outbox(settings: OtelSettings) -> Outbox:
    """What sends spans and says whether they have arrived.

    Raises:
        Permanent: `invalid_setting` where a standard variable cannot be read.
    """
    from shared.otlp.sdk import Outbox

    return _made(lambda: Outbox(settings))


def _made[T](make: Callable[[], T]) -> T:
    try:
        return make()
    except ValueError as error:
        raise Permanent("invalid_setting", f"OTEL_*: {error}", field="OTEL_*") from error
