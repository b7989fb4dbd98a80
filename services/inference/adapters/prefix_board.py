"""Publishes which prefix blocks the worker's cache holds: changes as they come, all on request.

Over core NATS: what is lost is asked for again, and what it says is true for seconds only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from itertools import batched

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from services.inference.core.blocks import PrefixReport
from services.inference.handlers import Inference
from shared.bus.connect import Bus
from shared.contracts.base import encode
from shared.contracts.prefixes import PrefixChange
from shared.contracts.workers import WorkerState
from shared.errors import Transient
from shared.subjects import prefixes_request, prefixes_subject

EVERY = 1.0
"""Seconds between two looks: a router that is a second late costs a prefix, no answer."""
MOST = 20_000
"""Names in a message: 20 digits each, well below the broker's limit."""


class PrefixBoard:
    """One worker's. A model of which nobody can tell is silent."""

    def __init__(
        self, bus: Bus, inference: Inference, state: WorkerState, *, every: float = EVERY
    ) -> None:
        self._bus, self._inference, self._state, self._every = bus, inference, state, every
        self._told: PrefixReport | None = None
        self._number = 0
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to tell."""
        if self._inference.prefixes() is None:
            return
        self._subscription = await self._bus.nc.subscribe(
            prefixes_request(self._state.worker), cb=self._on_request
        )
        self._task = asyncio.create_task(self._look_often())

    async def stop(self) -> None:
        """Tell no more."""
        if self._task is not None:
            self._task.cancel()
        if self._subscription is not None:
            with contextlib.suppress(nats.errors.Error):
                await self._subscription.unsubscribe()

    async def _look_often(self) -> None:
        while True:
            with contextlib.suppress(Transient):
                await self._look()
            await asyncio.sleep(self._every)

    async def _look(self) -> None:
        """Say what has changed; what could not be said is missed by its number."""
        now = self._inference.prefixes()
        if now is None or now == self._told:
            return
        before, self._told = self._told, now
        known = before.blocks if before is not None and before.epoch == now.epoch else frozenset()
        void = before is not None and before.epoch != now.epoch
        subject = prefixes_subject(self._state.model, self._state.worker)
        for change in self._changes(now, now.blocks - known, known - now.blocks, whole=void):
            await self._bus.send(subject, encode(change))

    def _changes(
        self, now: PrefixReport, stored: Iterable[int], removed: Iterable[int], *, whole: bool
    ) -> Iterator[PrefixChange]:
        nothing: tuple[int, ...] = ()
        parts = [(part, nothing) for part in batched(stored, MOST)]
        parts += [(nothing, part) for part in batched(removed, MOST)]
        for n, (more, less) in enumerate(parts or [(nothing, nothing)]):
            self._number += 1
            yield PrefixChange(
                worker=self._state.worker,
                model=self._state.model,
                block_tokens=now.block_tokens,
                number=self._number,
                stored=more,
                removed=less,
                whole=whole and n == 0,
                complete=now.complete,
            )

    async def _on_request(self, message: Msg) -> None:
        """All that was told so far, as of the last change's number."""
        told = self._told or PrefixReport(block_tokens=1)
        parts = list(batched(told.blocks, MOST)) or [()]
        for n, part in enumerate(parts):
            change = PrefixChange(
                worker=self._state.worker,
                model=self._state.model,
                block_tokens=told.block_tokens,
                number=self._number,
                stored=part,
                whole=n == 0,
                more=n < len(parts) - 1,
                complete=told.complete,
            )
            with contextlib.suppress(Transient):
                await self._bus.send(message.reply, encode(change))
