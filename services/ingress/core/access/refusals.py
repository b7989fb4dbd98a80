"""Refused requests on their way into the request log: counted, so that they cannot flood it. Pure.

The first of a kind is told at once, and what follows within a minute together: a client that is
refused a thousand times a second costs the log one line a minute (decision record 0031).
"""

from __future__ import annotations

from dataclasses import dataclass

SOONEST = 60.0
"""Seconds between two lines of the same kind."""
_KINDS = 1000
"""Kinds that are counted apart; beyond them neither key nor route is, and twice as many are all."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a line of the log has in common."""

    tenant: str
    code: str
    status: int
    route: str = ""
    key: str = ""


@dataclass(slots=True)
class Tally:
    """How many, from when to when (epoch seconds), and the trace of the last one."""

    count: int = 0
    since: float = 0.0
    until: float = 0.0
    trace_id: str = ""


class Tallies:
    """What is not told yet."""

    def __init__(self, kinds: int = _KINDS) -> None:
        self._most = kinds
        self._open: dict[Kind, Tally] = {}
        self._told: dict[Kind, float] = {}

    def note(self, kind: Kind, now: float, trace_id: str) -> None:
        """One more."""
        if kind not in self._open and len(self._open) >= self._most:
            kind = Kind(kind.tenant, kind.code, kind.status)
        tally = self._open.get(kind)
        if tally is None and len(self._open) >= 2 * self._most:
            return
        if tally is None:
            tally = self._open[kind] = Tally(since=now)
        tally.count += 1
        tally.until, tally.trace_id = now, trace_id

    def keep(self, kind: Kind, tally: Tally) -> None:
        """It could not be told: it is counted on, and told when that is possible."""
        self._told.pop(kind, None)
        later = self._open.get(kind)
        if later is None:
            self._open[kind] = tally
        else:
            later.count, later.since = later.count + tally.count, tally.since

    def due(self, now: float, *, every: bool = False) -> list[tuple[Kind, Tally]]:
        """What is to be told now; it counts as told. With `every` nothing is left for later."""
        self._told = {kind: at for kind, at in self._told.items() if now - at < SOONEST}
        found = [(kind, tally) for kind, tally in self._open.items() if kind not in self._told]
        if every:
            found = list(self._open.items())
        for kind, _ in found:
            del self._open[kind]
            self._told[kind] = now
        return found
