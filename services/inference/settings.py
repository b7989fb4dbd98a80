"""Settings of an inference worker."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from shared.settings import BusSettings


class Settings(BusSettings):
    """Beside the bus: which model this worker serves, and under which name."""

    models: Path = Field(default=Path("infra/models.yaml"), description="the models file")
    model: str = Field(default="nano", description="the model of this worker")
    worker_id: str | None = Field(default=None, description="unset: <model>-0")

    @property
    def worker(self) -> str:
        """The worker's name; a restart under the same name takes up its own queue."""
        return self.worker_id or f"{self.model}-0"
