"""Settings of the command line, and the environment it hands to what it starts."""

from __future__ import annotations

import os
from pathlib import Path

from shared.settings import Address, BusSettings

ROOT = Path(__file__).resolve().parents[2]


class CliSettings(BusSettings):
    """Where the system is, and what `doctor` looks at."""

    http_host: str = "127.0.0.1"
    http_port: int = 8080
    models: Path = ROOT / "infra" / "models.yaml"

    def address_on(self, data: Path | None) -> Address:
        """The broker's address; with `data` that of the system there, whatever else is set.

        Raises:
            Transient: `no_broker`.
        """
        if data is None:
            return self.address()
        return self.model_copy(update={"data": data, "nats_url": None}).address()


def environment_for_children() -> dict[str, str]:
    """This process's environment, with the repository on the path of Python."""
    inherited = dict(os.environ)
    rest = inherited.get("PYTHONPATH")
    return inherited | {"PYTHONPATH": f"{ROOT}{os.pathsep}{rest}" if rest else str(ROOT)}
