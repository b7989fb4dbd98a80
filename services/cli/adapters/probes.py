"""What `doctor` looks at: this machine, the broker, every service. One finding per thing."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx

from services.cli.adapters.certificates import certificates_check
from services.cli.adapters.client import CommandClient
from services.cli.adapters.gpu import GpuProbes
from services.cli.adapters.scrapes import metrics_check
from services.cli.core.checks import Check, disk_check, python_check, server_check, streams_check
from services.cli.core.place import Place
from services.cli.core.words import plural, size
from shared.bus.connect import ApiError
from shared.clock import now
from shared.contracts.ledger import TasksQuery
from shared.errors import MillraceError, Transient
from shared.models import OpenVinoModel, hub_name, read_models
from shared.subjects import ROUTER, STREAMS, TOOLS, Consumer

Connected = Callable[[], AbstractAsyncContextManager[CommandClient]]
RESTART = "see the service's log in the data folder; `make run` starts it"
_LOOKS, _PAUSE = 8, 0.1
"""A consumer between two pulls looks abandoned for a moment, so look more than once."""


class SystemProbes:
    """Probes of one system; `root` is what paths in the models file are relative to."""

    def __init__(self, place: Place, root: Path, connect: Connected, gpu: GpuProbes) -> None:
        self._place = place
        self._gpu = gpu
        self._root = root
        self._connect = connect

    def machine(self) -> Sequence[Check]:
        """Python, data folder, disk, models."""
        return (
            python_check(tuple(sys.version_info[:3])),
            self._data(),
            self._disk(),
            self._models(),
        )

    def _data(self) -> Check:
        folder = self._place.data.absolute()
        if not folder.exists():
            return Check("data", "warning", f"{folder} does not exist", "`make run` creates it")
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            return Check(
                "data", "failed", f"{folder} cannot be written", "chown it, or set MILLRACE_DATA"
            )
        return Check("data", "ok", str(folder))

    def _disk(self) -> Check:
        folder = self._place.data.absolute()
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        return disk_check(free, size(free))

    def _models(self) -> Check:
        path: Path = self._place.models
        if not path.is_file():
            return Check("models", "failed", f"{path} is missing", "set MILLRACE_MODELS to a file")
        try:
            models = read_models(path).models
        except MillraceError as error:
            return Check("models", "failed", error.detail, f"correct {path}")
        for name, row in models.items():
            if not isinstance(row, OpenVinoModel):
                continue
            here = (self._root / row.path / "config.json").is_file()
            if not here and hub_name(row.path) is None:
                fix = f"put a model there, or correct {path}"
                return Check("models", "failed", f"{name}: no model in {row.path}", fix)
        return Check("models", "ok", f"{', '.join(models)} ({path})")

    async def system(self) -> Sequence[Check]:
        """Broker first; without it nothing else can be asked, except HTTP."""
        try:
            async with self._connect() as client:
                inside = await self._inside(client)
        except MillraceError as error:
            inside = [Check("broker", "failed", error.detail or error.code, "`make run`")]
        return (*inside, await self._http(), await metrics_check(self._place.data.absolute()))

    async def gpu(self) -> Sequence[Check]:
        """See `GpuProbes`."""
        return await self._gpu.look()

    async def _inside(self, client: CommandClient) -> list[Check]:
        server = client.bus.nc.connected_server_version
        version = f"{server.major}.{server.minor}.{server.patch}"
        checks = [server_check(version), await _streams(client)]
        if (tls := client.bus.login.tls) is not None:
            checks.append(await certificates_check(client.bus.nc.servers, tls, now()))
        services: tuple[tuple[str, Callable[[], Awaitable[Check]]], ...] = (
            ("sessions", lambda: _sessions(client)),
            ("router", lambda: _pulled(client, "router", ROUTER)),
            ("inference", lambda: _workers(client)),
            ("tools", lambda: _pulled(client, "tools", TOOLS)),
            ("retrieval", lambda: _index(client)),
            ("ledger", lambda: _ledger(client)),
        )
        return checks + list(await asyncio.gather(*(_probe(*service) for service in services)))

    async def _http(self) -> Check:
        url = f"{self._place.url()}/readyz"
        fix = f"{RESTART}; MILLRACE_HTTP_HOST and MILLRACE_HTTP_PORT say where it listens"
        try:
            async with httpx.AsyncClient(timeout=3.0, trust_env=False) as client:
                answer = await client.get(url)
        except httpx.HTTPError as error:
            return Check("ingress", "failed", f"{url}: {type(error).__name__}", fix)
        if answer.is_success:
            return Check("ingress", "ok", url)
        return Check("ingress", "failed", f"{url}: {answer.status_code} {answer.text[:120]}", fix)


async def _probe(name: str, look: Callable[[], Awaitable[Check]]) -> Check:
    try:
        return await look()
    except MillraceError as error:
        away = isinstance(error, Transient) and error.code == "no_responders"
        return Check(name, "failed", "not running" if away else str(error), RESTART)


async def _streams(client: CommandClient) -> Check:
    try:
        names = (await client.bus.api("STREAM.NAMES")).get("streams") or []
    except MillraceError as error:
        return Check("streams", "failed", str(error), "enable JetStream on the server")
    return streams_check(set(names), (row.name for row in STREAMS))


async def _sessions(client: CommandClient) -> Check:
    """Ask for the end of a task that does not exist: a refusal is a sign of life."""
    try:
        await client.task("none", "_doctor").cancel(by="doctor")
    except Transient:
        raise
    except MillraceError:
        return Check("sessions", "ok", "answers")
    return Check("sessions", "ok", "answers")


async def _pulled(client: CommandClient, name: str, row: Consumer) -> Check:
    await client.bus.request(f"health.{name}", b"")
    for _ in range(_LOOKS):
        try:
            info = await client.bus.api(f"CONSUMER.INFO.{row.stream}.{row.name}")
        except ApiError as error:
            if not error.missing:
                raise
            break
        if info.get("num_waiting"):
            return Check(name, "ok", f"pulls; {plural(int(info['num_pending']), 'message')} wait")
        await asyncio.sleep(_PAUSE)
    return Check(name, "failed", "nobody pulls its messages", RESTART)


async def _workers(client: CommandClient) -> Check:
    workers = await client.workers()
    if not workers:
        return Check("inference", "failed", "no live worker", RESTART)
    if out := [f"{worker.model}: {worker.out}" for worker in workers if worker.out]:
        fix = "mend that; a worker comes back by itself"
        return Check("inference", "warning", "; ".join(sorted(out)), fix)
    models = ", ".join(sorted({worker.model for worker in workers}))
    return Check("inference", "ok", f"{plural(len(workers), 'worker')}: {models}")


async def _index(client: CommandClient) -> Check:
    state = await client.documents().state()
    return Check("retrieval", "ok", f"{state.model}, {plural(state.chunks, 'chunk')}")


async def _ledger(client: CommandClient) -> Check:
    reply = await client.tasks(TasksQuery(tenant=client.tenant, limit=1))
    return Check("ledger", "ok", f"at sequence {reply.sequence}")
