"""Which system a command is about (pure)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Place:
    """A system: its data folder, HTTP address and models file.

    `chosen` says that the folder was named on the command line, which then also decides over a
    broker's address in the environment.
    """

    data: Path
    http_host: str
    http_port: int
    models: Path
    chosen: bool = False
    embedded: bool = True
    """Whether its broker is the data folder's own."""

    def on(self, data: Path | None) -> Place:
        """This place, or the one on another data folder."""
        return self if data is None else replace(self, data=data, chosen=True, embedded=True)

    def url(self, port: int | None = None) -> str:
        """Where its HTTP side listens."""
        return f"http://{self.http_host}:{port or self.http_port}"
