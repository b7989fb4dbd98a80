"""A Prometheus of our own for a while: it scrapes a running system, and is asked what it found."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import yaml

from infra.local.scraping import free_ports
from infra.prometheus.rules import FILES, FOLDER
from shared.errors import Permanent, Transient

HOST = "127.0.0.1"
READY_WITHIN = 30.0
_LOOK = 0.2


def binary(named: str | None = None) -> str:
    """Where the program is.

    Raises:
        Permanent: `no_prometheus`.
    """
    found = shutil.which(named or "prometheus")
    if found is None:
        raise Permanent(
            "no_prometheus",
            f"there is no program {named or 'prometheus'}: install Prometheus (the package "
            "`prometheus` of Debian, for example), or say where it is with --prometheus",
        )
    return found


def configuration(targets: Path) -> dict[str, Any]:
    """That of the repository, on these targets and in a hurry."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    found["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    found["rule_files"] = [str(FOLDER / name) for name in FILES]
    found["scrape_configs"][0]["file_sd_configs"] = [{"files": [str(targets)]}]
    return found


class Prometheus:
    """The HTTP API, as far as it is needed."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def query(self, expr: str) -> list[dict[str, Any]]:
        """The series of an instant query.

        Raises:
            Permanent: `invalid_query`, with Prometheus' own words.
        """
        answer = (await self._client.get("/api/v1/query", params={"query": expr})).json()
        if answer["status"] != "success":
            raise Permanent("invalid_query", f"{answer.get('error')}: {expr}")
        result = answer["data"]["result"]
        scalar = answer["data"]["resultType"] == "scalar"
        return [{"metric": {}, "value": result}] if scalar else result

    async def down(self) -> list[str]:
        """The targets that were not scraped well yet, with the reason."""
        found = (await self._get("targets"))["activeTargets"]
        if not found:
            return ["no target at all"]
        return [
            f"{one['labels']['instance']}: {one['lastError'] or one['health']}"
            for one in found
            if one["health"] != "up"
        ]

    async def rules(self) -> list[dict[str, Any]]:
        """All rules and how they do."""
        groups = (await self._get("rules"))["groups"]
        return [rule for group in groups for rule in group["rules"]]

    async def _get(self, what: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self._client.get(f"/api/v1/{what}")).json()["data"]
        return found

    async def settled(self, seconds: float) -> None:
        """Wait until every target is scraped, then this long.

        Raises:
            Transient: `not_scraped`.
        """
        down = [""]
        try:
            async with asyncio.timeout(READY_WITHIN):
                while down:
                    await asyncio.sleep(_LOOK)
                    try:
                        down = await self.down()
                    except httpx.HTTPError as error:
                        down = [f"Prometheus: {type(error).__name__}"]
        except TimeoutError as error:
            raise Transient("not_scraped", "; ".join(down)) from error
        await asyncio.sleep(seconds)


@asynccontextmanager
async def prometheus(program: str, targets: Path) -> AsyncIterator[Prometheus]:
    """Run it on these targets until the end of the block; what it keeps is gone then."""
    [port] = free_ports(HOST, 1)
    with TemporaryDirectory(prefix="millrace-prometheus-") as folder:
        config = Path(folder) / "prometheus.yml"
        config.write_text(yaml.safe_dump(configuration(targets)))
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={HOST}:{port}",
            "--log.level=error",
            stdin=asyncio.subprocess.DEVNULL,
            process_group=0,
        )
        try:
            base = f"http://{HOST}:{port}"
            async with httpx.AsyncClient(base_url=base, timeout=10, trust_env=False) as client:
                yield Prometheus(client)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.wait()
