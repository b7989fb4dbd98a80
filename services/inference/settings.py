"""Settings of an inference worker."""

from __future__ import annotations

import os
from pathlib import Path

from dotenv import dotenv_values
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


def variable(name: str) -> str | None:
    """A variable that the models file names: of the environment, else of the file `.env`."""
    return os.environ.get(name) or dotenv_values(".env", interpolate=False).get(name)
