"""Settings of the router."""

from __future__ import annotations

from pathlib import Path

import orjson
from pydantic import Field

from shared.errors import Permanent
from shared.settings import BusSettings


class Settings(BusSettings):
    """Beside the bus: the models file, and where the broker's servers say how they are."""

    models: Path = Field(default=Path("infra/models.yaml"), description="the models file")
    nats_monitor: str | None = Field(
        default=None,
        description="monitoring address of each server of the broker, http://host:8222, with "
        "commas between; unset: the embedded server's",
    )

    def monitors(self) -> tuple[str, ...]:
        """The servers to look at; none for a broker of which no such address is known.

        Raises:
            Permanent: `invalid_setting`.
        """
        if self.nats_monitor is None:
            return () if self.nats_url else self._embedded()
        found = tuple(filter(None, (one.strip() for one in self.nats_monitor.split(","))))
        for url in found:
            if not url.startswith(("http://", "https://")):
                detail = f"MILLRACE_NATS_MONITOR: {url!r} must begin with http:// or https://"
                raise Permanent("invalid_setting", detail, field="MILLRACE_NATS_MONITOR")
        return found

    def _embedded(self) -> tuple[str, ...]:
        """As the supervisor wrote it down."""
        try:
            found = orjson.loads((self.data / "nats.json").read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return ()
        url = found.get("monitor") if isinstance(found, dict) else None
        return (url,) if isinstance(url, str) and url else ()
