"""What the ledger needs from outside: a store for its rows, and the log to replay.

The sentences below are what `tests/contract/ports/test_ledger_store.py` checks on every store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.ledger.core import Change
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


@dataclass(frozen=True, slots=True)
class Position:
    """How far the store is. `replay_until` is None in a store that has never seen the log."""

    sequence: int
    """The highest sequence applied; deliveries may overtake, so lower ones can be missing."""
    oldest: int
    """The lowest sequence applied, 0 for none: a log that begins later cannot rebuild it."""
    replay_from: int
    replay_until: int | None
    """Facts from `replay_from` to here must be read from the log again."""

    @property
    def replaying(self) -> bool:
        """Whether a replay was begun and has not ended."""
        return self.replay_until is not None and self.replay_from <= self.replay_until


class LedgerStore(Protocol):
    """Rows of the projection.

    Guarantees: `apply` is one transaction, durable when it returns, and follows the rule of each
    change's group, so that any permutation and repetition of the same changes leaves the same
    rows; a deletion removes its session's rows from before it, and older facts bring none back;
    positions never go back except by `begin_replay`; reads see whole transactions only.
    Trouble of the database is `Transient("ledger_unavailable")`.
    """

    async def open(self) -> None:
        """Bring the schema to that of this release; several stores may do so at once.

        Raises:
            Permanent: `ledger_schema_newer`, when a later release has written this database.
        """

    async def close(self) -> None:
        """Release everything; harmless when repeated."""

    async def position(self) -> Position:
        """Where the projection stands."""

    async def apply(
        self, changes: Sequence[Change], sequence: int, replayed: int | None = None
    ) -> None:
        """Write the changes, raise the position to `sequence` and, in a replay, begin the next
        page at `replayed`: all or nothing."""

    async def begin_replay(self, until: int, *, drop: bool = False) -> None:
        """Note that the log is to be read again from its start up to `until`; with `drop`, delete
        every row in the same transaction."""

    async def tasks(self, query: TasksQuery) -> tuple[TaskSummary, ...]:
        """Tasks whose submission is known, newest first."""

    async def usage(self, query: UsageQuery) -> tuple[UsageSummary, ...]:
        """Groups over first results and stateless completions, `limit` from `offset` on.

        By day alone the newest ones, in order; with a day among others the newest first; else by
        size. Percentiles are by nearest rank.
        """

    async def sessions(self, query: SessionsQuery) -> tuple[SessionSummary, ...]:
        """Sessions, the one that was touched last first."""

    async def requests(self, query: RequestsQuery) -> tuple[RequestLine, ...]:
        """Tasks whose submission is known, and completions; newest first."""


@dataclass(frozen=True, slots=True)
class Page:
    """Facts in the order of the log; `next` is where the following page begins."""

    facts: tuple[StoredFact, ...]
    next: int


class FactLog(Protocol):
    """The stream RUNS, read by position."""

    async def bounds(self) -> tuple[int, int]:
        """First and last sequence held; (1, 0) for an empty log."""

    async def unsettled(self) -> tuple[int, int]:
        """First and last sequence that were handed to the ledger and may not have been
        acknowledged; the first is above the last where there are none."""

    async def read(self, start: int, limit: int) -> Page:
        """Up to `limit` facts from `start` on; an empty page means that the log ends there."""
