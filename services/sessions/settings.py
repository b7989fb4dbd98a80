"""Settings of the sessions service."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from shared.settings import BusSettings


class Settings(BusSettings):
    """Beside the bus: where the shared agents are defined."""

    agents: Path = Field(default=Path("infra/agents"), description="folder of agent definitions")
