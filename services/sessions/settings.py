"""Settings of the sessions service."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from shared.settings import BusSettings


class Settings(BusSettings):
    """Beside the bus: where the shared agents are defined, and how often a state is kept."""

    agents: Path = Field(default=Path("infra/agents"), description="folder of agent definitions")
    snapshot_every: int = Field(
        default=200, ge=10, le=100_000, description="facts of a session between two snapshots"
    )
