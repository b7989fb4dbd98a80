"""Where requests wait for a slot of the engine, in the order that `core.fairness` gives.

Knows no bus and no engine: a slot is a number.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Literal

from services.inference.core.answering import Owner
from services.inference.core.fairness import Ticket, Turns
from shared.contracts.agents import Priority

Turn = Literal["yours", "aborted", "elsewhere"]
"""What comes of waiting: a slot, somebody's abort, or a worker that stops."""


class Gate:
    """The slots of one worker."""

    def __init__(self, slots: int) -> None:
        self._turns = Turns(slots)
        self._calls: dict[Ticket, tuple[str, bool, asyncio.Future[Turn]]] = {}

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._turns.waiting

    @asynccontextmanager
    async def turn(
        self, owner: Owner, priority: Priority, *, movable: bool = False
    ) -> AsyncGenerator[Turn]:
        """Wait for a slot and hold it. Whoever is `movable` may be sent to another worker."""
        ticket = Ticket(owner.tenant, priority)
        called = asyncio.get_running_loop().create_future()
        self._calls[ticket] = (owner.request, movable, called)
        self._call(self._turns.enter(ticket))
        try:
            yield await called
        finally:
            if self._calls.pop(ticket, None) is not None:  # else it was dismissed
                self._call(self._turns.leave(ticket))

    def drop(self, request: str) -> None:
        """A request that waits need not wait any more; one that runs is not ours to end."""
        for ticket, (name, _, _) in list(self._calls.items()):
            if name == request and not ticket.running:
                self._dismiss(ticket, "aborted")

    def dismiss(self) -> None:
        """Let all go that can be served elsewhere."""
        for ticket, (_, movable, _) in list(self._calls.items()):
            if movable and not ticket.running:
                self._dismiss(ticket, "elsewhere")

    def _dismiss(self, ticket: Ticket, why: Turn) -> None:
        _, _, called = self._calls.pop(ticket)
        self._call(self._turns.leave(ticket))
        called.set_result(why)

    def _call(self, tickets: Iterable[Ticket]) -> None:
        for ticket in tickets:
            _, _, called = self._calls[ticket]
            if not called.done():
                called.set_result("yours")
