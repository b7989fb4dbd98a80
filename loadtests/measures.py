"""From raw figures to what is judged: every time beside its floor. Pure."""

from __future__ import annotations

import math

from loadtests.figures import Figures, Times
from loadtests.operations import OPERATIONS
from loadtests.plan import Phase, Raw
from loadtests.result import BareLine, Client, Line, Measure, Reason, Sums, TenantLine

_KINDS = ("times", "first", "gaps")


class Floor:
    """One client alone. Of the floors before and after the load the slower one counts.

    A machine that does something else meanwhile makes one of them slow, and most likely the load.
    """

    def __init__(self, raw: Raw) -> None:
        self._phases = (raw.before, raw.after)
        counts = {name: raw.load.book.whole(name).times.count for name in raw.load.book.figures}
        known = {name: alone for name in counts if (alone := self.of(name)) is not None}
        done = sum(counts[name] for name in known)
        self.work = sum(counts[name] * alone for name, alone in known.items())
        """Seconds that one client alone would have needed for what was done."""
        self.mean = self.work / done if done else 0.0
        self._others = max(0, raw.users - 1)

    def of(self, operation: str, kind: str = "times") -> float | None:
        """The median of an operation alone."""
        found = [_middle(getattr(p.book.whole(operation), kind)) for p in self._phases]
        return max((middle for middle in found if middle is not None), default=None)

    def queue(self, operation: str, kind: str) -> float | None:
        """Its time behind everybody else in one line."""
        alone = self.of(operation, kind)
        return None if alone is None else alone + self._others * self.mean

    def bare(self, way: str) -> float | None:
        """The faster median of a round trip with nothing in it."""
        found = [_middle(getattr(phase.bare, way)) for phase in self._phases]
        return min((middle for middle in found if middle is not None), default=None)


def _middle(times: Times) -> float | None:
    return times.quantile(0.5)


def lines_of(raw: Raw, floor: Floor, mix: tuple[str, ...]) -> tuple[Line, ...]:
    """A line for each operation of the mix."""
    return tuple(_line(name, raw.load, floor) for name in mix)


def _line(name: str, load: Phase, floor: Floor) -> Line:
    figures, way = load.book.whole(name), OPERATIONS[name].way
    alone, bare = floor.of(name), floor.bare(way)
    times, first, gaps = (_measure(name, kind, figures, floor) for kind in _KINDS)
    return Line(
        operation=name,
        way=way,
        count=figures.count,
        failed=figures.failed_count,
        refused=figures.refused,
        per_second=figures.count / load.seconds if load.seconds else 0.0,
        tokens=figures.tokens,
        steps=figures.steps,
        cost=ratio(alone, bare),
        times=times,
        first=first,
        gaps=gaps,
    )


def _measure(name: str, kind: str, figures: Figures, floor: Floor) -> Measure | None:
    times: Times = getattr(figures, kind)
    if not times.count:
        return None
    p50, p95, p99 = (times.quantile(share) or 0.0 for share in (0.5, 0.95, 0.99))
    alone, queue = floor.of(name, kind), floor.queue(name, kind)
    return Measure(
        floor_ms=milliseconds(alone),
        p50_ms=p50 * 1e3,
        p95_ms=p95 * 1e3,
        p99_ms=p99 * 1e3,
        most_ms=times.most * 1e3,
        stretch=ratio(p50, alone),
        median=ratio(p50, queue),
        tail=ratio(p95, queue),
    )


def ratio(value: float | None, floor: float | None) -> float | None:
    """One over the other, where both are known."""
    return value / floor if value is not None and floor else None


def milliseconds(seconds: float | None) -> float | None:
    """Seconds in milliseconds."""
    return None if seconds is None else seconds * 1e3


def sums_of(raw: Raw, floor: Floor, lines: tuple[Line, ...]) -> Sums:
    """The run as a whole."""
    seconds = raw.load.seconds or math.inf
    spent = sum(
        figures.times.total
        for name, tenants in raw.load.book.figures.items()
        for figures in tenants.values()
        if floor.of(name) is not None
    )
    told = sum(line.steps for line in lines)
    return Sums(
        operations=sum(line.count for line in lines),
        failed=sum(line.failed for line in lines),
        refused=sum(line.refused for line in lines),
        per_second=sum(line.count for line in lines) / seconds,
        tokens_per_second=sum(line.tokens for line in lines) / seconds,
        steps_per_second=(raw.ends.steps if raw.ends.watched else told) / seconds,
        gain=floor.work / seconds if floor.work else None,
        stretch=ratio(spent, floor.work),
        tasks=raw.ends.tasks,
        watched=raw.ends.watched,
    )


def tenants_of(raw: Raw, floor: Floor) -> tuple[TenantLine, ...]:
    """A line for each tenant that did something."""
    names = sorted({name for found in raw.load.book.figures.values() for name in found})
    return tuple(_tenant(name, raw.load, floor) for name in names)


def _tenant(name: str, load: Phase, floor: Floor) -> TenantLine:
    count = failed = 0
    spent = alone = 0.0
    for operation, tenants in load.book.figures.items():
        figures, least = tenants.get(name, Figures()), floor.of(operation)
        count, failed = count + figures.count, failed + figures.failed_count
        if least is not None:
            spent, alone = spent + figures.times.total, alone + figures.times.count * least
    return TenantLine(tenant=name, count=count, failed=failed, stretch=ratio(spent, alone))


def bare_of(raw: Raw, floor: Floor) -> tuple[BareLine, ...]:
    """The bare round trips."""
    return tuple(
        BareLine(
            way=way,
            floor_ms=milliseconds(floor.bare(way)),
            load_ms=milliseconds(_middle(getattr(raw.load.bare, way))),
        )
        for way in ("http", "nats")
    )


def client_of(raw: Raw, operations: int) -> Client:
    """What the client itself took under the load."""
    load = raw.load
    return Client(
        core=load.cpu / load.seconds if load.seconds else 0.0,
        cpu_ms=load.cpu * 1e3 / max(1, operations),
        bridge_ms=milliseconds(_middle(load.bare.bridge)),
    )


def reasons_of(raw: Raw) -> tuple[Reason, ...]:
    """Why operations failed in any phase, the most frequent first."""
    found: dict[tuple[str, str], int] = {}
    for phase in (raw.before, raw.load, raw.after):
        for operation in phase.book.figures:
            for reason, number in phase.book.whole(operation).failures.items():
                key = operation, reason
                found[key] = found.get(key, 0) + number
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Reason(operation=op, reason=why, count=n) for (op, why), n in ranked)
