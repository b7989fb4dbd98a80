"""Counts the tokens of stateless completions for whoever asked, wherever the answer is made.

The request's context says who that is: an answer's stream runs in tasks that inherit it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from contextvars import ContextVar

from services.ingress.ports import Completions
from shared.contracts.tokens import DirectEvent
from shared.contracts.work import DirectRequest

CHARGE: ContextVar[Callable[[int], None] | None] = ContextVar("millrace_charge", default=None)


class Metered:
    """Port `Completions` over another one."""

    def __init__(self, completions: Completions) -> None:
        self._completions = completions

    def complete(self, request: DirectRequest) -> AsyncGenerator[DirectEvent]:
        """The other one's events, themselves where nobody is charged."""
        events = self._completions.complete(request)
        charge = CHARGE.get()
        return events if charge is None else _charged(events, charge)


async def _charged(
    events: AsyncGenerator[DirectEvent], charge: Callable[[int], None]
) -> AsyncGenerator[DirectEvent]:
    async with aclosing(events):
        async for event in events:
            if event.done is not None:
                charge(event.done.usage.input + event.done.usage.output)
            yield event
