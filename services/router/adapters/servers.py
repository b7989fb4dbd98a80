"""Asks the broker's servers every few seconds how they are, where their monitoring can be reached.

What the bus itself tells of streams and queues is `queues`' business; this is what it does not
tell: which servers there are, how many clients they have, what they hold in all. Nothing depends on
the answers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import orjson

from shared.metrics.catalogue import (
    BROKER_CONNECTIONS,
    BROKER_CONNECTIONS_LIMIT,
    BROKER_HEALTHY,
    BROKER_LEAFS,
    BROKER_LEAFS_WANTED,
    BROKER_MEMORY,
    BROKER_SLOW,
    BROKER_STORED,
    BROKER_STORED_LIMIT,
    BROKER_UP,
)
from shared.metrics.kinds import Gauge, Values
from shared.telemetry import Log

EVERY = 5.0
_PATIENCE = 2.0


class Leaf(msgspec.Struct, frozen=True):
    """What a server is configured to join."""

    remotes: list[Any] = []


class Used(msgspec.Struct, frozen=True):
    """Bytes that its streams have."""

    memory: int = 0
    storage: int = 0


class Bounds(msgspec.Struct, frozen=True):
    """Bytes that its streams may have."""

    max_memory: int
    max_storage: int


class JetStream(msgspec.Struct, frozen=True):
    """Without `config` the server has no streams at all."""

    config: Bounds | None = None
    stats: Used = Used()


class Variables(msgspec.Struct, frozen=True):
    """The part of `/varz` that is shown. Unknown fields are ignored, as everywhere."""

    server_name: str
    connections: int
    max_connections: int
    slow_consumers: int
    mem: int
    leafnodes: int
    leaf: Leaf = Leaf()
    jetstream: JetStream = JetStream()


_FIGURES: tuple[tuple[Gauge, Callable[[Variables], float]], ...] = (
    (BROKER_CONNECTIONS, lambda one: one.connections),
    (BROKER_CONNECTIONS_LIMIT, lambda one: one.max_connections),
    (BROKER_MEMORY, lambda one: one.mem),
    (BROKER_LEAFS, lambda one: one.leafnodes),
    (BROKER_LEAFS_WANTED, lambda one: len(one.leaf.remotes)),
)


class Servers:
    """Each by the name that it gives itself; until it has told it, by its address."""

    def __init__(self, monitors: Sequence[str], log: Log, every: float = EVERY) -> None:
        self._names = {url.rstrip("/"): urlsplit(url).netloc for url in monitors}
        self._log, self._every = log, every
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look, if there is anything to look at."""
        if self._names:
            self._task = asyncio.create_task(self._often())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _often(self) -> None:
        async with httpx.AsyncClient(timeout=_PATIENCE, trust_env=False) as client:
            while True:
                await self.look(client)
                await asyncio.sleep(self._every)

    async def look(self, client: httpx.AsyncClient) -> None:
        """Once, at all of them: one that does not answer keeps its name and loses its figures."""
        found = await asyncio.gather(*(self._ask(client, url) for url in self._names))
        up: dict[Values, float] = {}
        healthy: dict[Values, float] = {}
        for (url, name), (variables, well) in zip(list(self._names.items()), found, strict=True):
            self._names[url] = called = variables.server_name if variables else name
            up[called,], healthy[called,] = variables is not None, well
        BROKER_UP.replace(up)
        BROKER_HEALTHY.replace(healthy)
        _show([variables for variables, _ in found if variables])

    async def _ask(self, client: httpx.AsyncClient, url: str) -> tuple[Variables | None, bool]:
        """What it says of itself, and whether it is well."""
        try:
            answer, health = await asyncio.gather(
                client.get(f"{url}/varz"), client.get(f"{url}/healthz")
            )
            answer.raise_for_status()
            variables = msgspec.convert(orjson.loads(answer.content), Variables)
        except (httpx.HTTPError, orjson.JSONDecodeError, msgspec.ValidationError) as error:
            self._log.info("servers.unseen", url=url, error=str(error) or type(error).__name__)
            return None, False
        return variables, health.is_success


def _show(servers: Sequence[Variables]) -> None:
    """The figures of those that answered, and of no others."""
    for gauge, read in _FIGURES:
        gauge.replace({(one.server_name,): read(one) for one in servers})
    stored: dict[Values, float] = {}
    limits: dict[Values, float] = {}
    for one in servers:
        name, used, bounds = one.server_name, one.jetstream.stats, one.jetstream.config
        if bounds is not None:
            stored |= {(name, "memory"): used.memory, (name, "file"): used.storage}
            limits |= {(name, "memory"): bounds.max_memory, (name, "file"): bounds.max_storage}
    BROKER_STORED.replace(stored)
    BROKER_STORED_LIMIT.replace(limits)
    BROKER_SLOW.keep([(one.server_name,) for one in servers])
    for one in servers:
        BROKER_SLOW.mirror(one.slow_consumers, one.server_name)
