"""Owns who gets the next slot of a model: those who wait for an answer before work in batches, and
among tenants the one that has the fewest slots.

Must not know requests, engines or time. The shares are max-min fair in slots: a tenant that asks
for a thousand answers takes what nobody else wants. Batches are held back, never starved: they
leave one slot free for whoever comes, and get one turn in `BATCH_EVERY` while others wait.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from shared.contracts.agents import Priority

BATCH_EVERY = 16


@dataclass(eq=False, slots=True)
class Ticket:
    """One who wants a slot. `running` once it has one."""

    tenant: str
    priority: Priority
    running: bool = False


@dataclass(slots=True)
class _Line:
    """Who waits, by tenant in the order of arrival."""

    tenants: dict[str, deque[Ticket]] = field(default_factory=dict)

    def add(self, ticket: Ticket) -> None:
        self.tenants.setdefault(ticket.tenant, deque()).append(ticket)

    def remove(self, ticket: Ticket) -> None:
        line = self.tenants[ticket.tenant]
        line.remove(ticket)
        if not line:
            del self.tenants[ticket.tenant]


class Turns:
    """The slots of one engine, and the lines before them."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._running: Counter[str] = Counter()
        self._lines: dict[Priority, _Line] = {"interactive": _Line(), "batch": _Line()}
        self._turn = 0
        self._last: dict[str, int] = {}
        self._passed_over = 0

    @property
    def waiting(self) -> int:
        """How many have no slot."""
        lines = self._lines.values()
        return sum(len(one) for line in lines for one in line.tenants.values())

    def enter(self, ticket: Ticket) -> list[Ticket]:
        """Somebody comes; answers who may start now."""
        self._lines[ticket.priority].add(ticket)
        return self._start()

    def leave(self, ticket: Ticket) -> list[Ticket]:
        """Somebody has finished, or waits no more; answers who may start now."""
        if ticket.running:
            ticket.running = False
            self._running[ticket.tenant] -= 1
            if not self._running[ticket.tenant]:
                del self._running[ticket.tenant]
        else:
            self._lines[ticket.priority].remove(ticket)
        return self._start()

    def _start(self) -> list[Ticket]:
        started: list[Ticket] = []
        while (priority := self._next_line()) is not None:
            line = self._lines[priority]
            tenant = min(line.tenants, key=self._claim)
            ticket = line.tenants[tenant][0]
            line.remove(ticket)
            self._serve(ticket)
            started.append(ticket)
        return started

    def _next_line(self) -> Priority | None:
        free = self.slots - self._running.total()
        batches = bool(self._lines["batch"].tenants)
        if self._lines["interactive"].tenants and free > 0:
            return "batch" if batches and self._passed_over >= BATCH_EVERY else "interactive"
        kept = 1 if self.slots > 1 else 0
        return "batch" if batches and free > kept else None

    def _claim(self, tenant: str) -> tuple[int, int]:
        """The fewest slots first; between equals whoever had a turn longest ago."""
        return self._running[tenant], self._last.get(tenant, -1)

    def _serve(self, ticket: Ticket) -> None:
        ticket.running = True
        self._running[ticket.tenant] += 1
        self._turn += 1
        self._last[ticket.tenant] = self._turn
        if ticket.priority == "batch":
            self._passed_over = 0
        else:
            self._passed_over += bool(self._lines["batch"].tenants)
        self._forget()

    def _forget(self) -> None:
        """Turns of tenants that neither run nor wait mean nothing after a while."""
        if len(self._last) > 1024:
            known = {*self._running, *(t for line in self._lines.values() for t in line.tenants)}
            self._last = {tenant: turn for tenant, turn in self._last.items() if tenant in known}
