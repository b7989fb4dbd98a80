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
    bus_tls: bool = Field(default=False, description="TLS of the server that is started here")
    models: Path = ROOT / "infra" / "models.yaml"
    agents: Path = ROOT / "infra" / "agents"
    model: str = "nano"
    worker_id: str | None = None
    replicas: str = Field(
        default="", description="processes of a service where it is not one: sessions=2,tools=2"
    )

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

    def for_user(self, service: str) -> dict[str, str]:
        """The key that a service shows on the bus: its own, and no other one.

        With a broker of somebody else's it is one of the folder of keys, where there is a folder.
        """
        if self.nats_url is None:
            folder = self.data.absolute() / "nats" / "users"
        elif self.nats_creds is not None and self.nats_creds.is_dir():
            folder = self.nats_creds.absolute()
        else:
            return {}
        return {"MILLRACE_NATS_CREDS": str(folder / f"{service}.nk")}

    def for_replica(self, service: str, number: int) -> dict[str, str]:
        """What the n-th process of a service must not have in common with the first."""
        if number == 1:
            return {}
        if service == "ingress":
            return {"MILLRACE_HTTP_PORT": str(self.http_port + number - 1)}
        if service == "inference":
            first = self.worker_id
            other = f"{first}-{number}" if first else f"{self.model}-{number - 1}"
            return {"MILLRACE_WORKER_ID": other}
        return {}

    def for_hosted(self, model: str) -> dict[str, str]:
        """What the worker of a hosted model must not have in common with the others."""
        first = self.worker_id
        return {"MILLRACE_WORKER_ID": f"{first}-{model}" if first else f"{model}-0"}


def inherited_environment() -> dict[str, str]:
    """A copy of this process's environment."""
    return dict(os.environ)
