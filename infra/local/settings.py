"""The settings of the local system, and the one place here that reads the environment."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from shared.settings import BusSettings

ROOT = Path(__file__).resolve().parents[2]


class LocalSettings(BusSettings):
    """`MILLRACE_*` as far as the supervisor itself needs them; services read the rest."""

    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8080, ge=1, le=65535)
    sync: str = "always"
    models: Path = ROOT / "infra" / "models.yaml"
    agents: Path = ROOT / "infra" / "agents"

    def for_services(self) -> dict[str, str]:
        """The values every service must agree on, as environment variables.

        Paths are absolute, because services run in the repository and the user may not.
        """
        return {
            "MILLRACE_DATA": str(self.data.absolute()),
            "MILLRACE_HTTP_HOST": self.http_host,
            "MILLRACE_HTTP_PORT": str(self.http_port),
            "MILLRACE_MODELS": str(self.models.absolute()),
            "MILLRACE_AGENTS": str(self.agents.absolute()),
        }


def inherited_environment() -> dict[str, str]:
    """A copy of this process's environment."""
    return dict(os.environ)
