"""The in-memory twins of the store and of the log: same guarantees, nothing kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from services.ledger.adapters import reading
from services.ledger.adapters.reading import Row
from services.ledger.core import (
    CONTENT,
    GROUPS,
    KEYS,
    Change,
    Horizons,
    Key,
    coalesce,
    horizons_of,
    kept,
)
from services.ledger.ports import Page, Position
from shared.contracts.ledger import (
    RequestLine,
    RequestsQuery,
    SessionsQuery,
    SessionSummary,
    TasksQuery,
    TaskSummary,
    UsageQuery,
    UsageSummary,
)
from shared.contracts.log import StoredFact


class MemoryStore:
    """`LedgerStore` over dictionaries."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[Key, Row]] = {table: {} for table in KEYS}
        self._position = Position(sequence=0, oldest=0, replay_from=1, replay_until=None)

    async def open(self) -> None:
        """Nothing to create."""

    async def close(self) -> None:
        """Nothing to release."""

    async def position(self) -> Position:
        """Where the projection stands."""
        return self._position

    async def apply(
        self, changes: Sequence[Change], sequence: int, replayed: int | None = None
    ) -> None:
        """Follow the rule of each change's group."""
        new = horizons_of(changes)
        for key, below in new.items():
            self._erase(key, below)
        changes = kept(changes, self._horizons(new))
        for change in coalesce(changes):
            row = self.rows[change.group.table].setdefault(change.key, {})
            held = row.get(change.group.guard)
            if change.group.wins(change.sequence, None if held is None else int(held)):
                row.update(change.values)
                row[change.group.guard] = change.sequence
        at = self._position
        seen = [change.sequence for change in changes]
        if new:
            seen = self._guards()
        elif at.oldest:
            seen.append(at.oldest)
        self._position = Position(
            sequence=max(at.sequence, sequence),
            oldest=min(seen, default=0),
            replay_from=at.replay_from if replayed is None else replayed,
            replay_until=at.replay_until,
        )

    def _erase(self, key: Key, below: int) -> None:
        """Drop the rows of a session that were begun by a fact below a sequence."""
        for table in CONTENT:
            self.rows[table] = {
                place: row
                for place, row in self.rows[table].items()
                if place[:2] != key or min(_guards_of(table, row)) >= below
            }

    def _horizons(self, new: Horizons) -> Horizons:
        held = {key: int(row["below"]) for key, row in self.rows["deletions"].items()}
        return {key: max(held.get(key, 0), new.get(key, 0)) for key in held | new}

    def _guards(self) -> list[int]:
        return [
            guard
            for table, rows in self.rows.items()
            for row in rows.values()
            for guard in _guards_of(table, row)
        ]

    async def begin_replay(self, until: int, *, drop: bool = False) -> None:
        """Note the replay; with `drop`, forget every row."""
        at = self._position
        if drop:
            self.rows = {table: {} for table in KEYS}
            at = replace(at, sequence=0, oldest=0)
        self._position = replace(at, replay_from=1, replay_until=until)

    async def tasks(self, query: TasksQuery) -> tuple[TaskSummary, ...]:
        """Newest first."""
        return reading.tasks(self.rows, query)

    async def sessions(self, query: SessionsQuery) -> tuple[SessionSummary, ...]:
        """The one that was touched last first."""
        return reading.sessions(self.rows, query)

    async def requests(self, query: RequestsQuery) -> tuple[RequestLine, ...]:
        """Newest first."""
        return reading.requests(self.rows, query)

    async def usage(self, query: UsageQuery) -> tuple[UsageSummary, ...]:
        """Groups over first results and stateless completions."""
        return reading.usage(self.rows, query)


def _guards_of(table: str, row: Row) -> list[int]:
    return [int(row[g.guard]) for g in GROUPS if g.table == table and g.guard in row]


class MemoryLog:
    """`FactLog` over a list of facts in the order of their sequences."""

    def __init__(
        self, facts: Sequence[StoredFact] = (), in_flight: tuple[int, int] = (1, 0)
    ) -> None:
        self.facts = list(facts)
        self.in_flight = in_flight

    async def bounds(self) -> tuple[int, int]:
        """First and last sequence held."""
        return (self.facts[0].seq, self.facts[-1].seq) if self.facts else (1, 0)

    async def unsettled(self) -> tuple[int, int]:
        """What the test says is in flight."""
        return self.in_flight

    async def read(self, start: int, limit: int) -> Page:
        """Up to `limit` facts from `start` on."""
        found = tuple(fact for fact in self.facts if fact.seq >= start)[:limit]
        return Page(found, found[-1].seq + 1 if found else start)
