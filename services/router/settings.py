"""Settings of the router."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from shared.settings import BusSettings


class Settings(BusSettings):
    """Beside the bus: the models file."""

    models: Path = Field(default=Path("infra/models.yaml"), description="the models file")
