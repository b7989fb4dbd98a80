"""What a short measurement of a running system has found: samples -> figures (pure)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One task that went right, as its user saw it. Times in seconds; without text no `first`."""

    seconds: float
    first: float | None
    tokens: int


@dataclass(frozen=True, slots=True)
class Phase:
    """Tasks that were asked in one way, so many at a time."""

    over: str
    at_once: int
    seconds: float
    """From the first question to the last answer."""
    samples: tuple[Sample, ...]
    errors: tuple[str, ...] = ()
    """The codes of what went wrong."""
    overheads: tuple[float, ...] = ()
    """Milliseconds that Millrace itself took, per step, by the facts' own times."""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Spread:
    """Half of the values are at most `p50`, nineteen of twenty at most `p95` (milliseconds)."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one phase; None where nothing was measured."""

    over: str
    phase: str
    at_once: int
    tasks: int
    errors: dict[str, int]
    seconds: float
    task_ms: Spread | None
    first_token_ms: Spread | None
    overhead_ms: Spread | None
    tokens_per_second: float
    tasks_per_second: float

    @property
    def failed(self) -> int:
        """How many tasks went wrong."""
        return sum(self.errors.values())


def figures(phase: Phase) -> Figures:
    """What a phase comes to."""
    seconds = max(phase.seconds, 1e-9)
    return Figures(
        over=phase.over,
        phase=phase.name,
        at_once=phase.at_once,
        tasks=len(phase.samples) + len(phase.errors),
        errors=dict(sorted(Counter(phase.errors).items())),
        seconds=round(phase.seconds, 3),
        task_ms=spread(one.seconds * 1000 for one in phase.samples),
        first_token_ms=spread(one.first * 1000 for one in phase.samples if one.first is not None),
        overhead_ms=spread(phase.overheads),
        tokens_per_second=round(sum(one.tokens for one in phase.samples) / seconds, 1),
        tasks_per_second=round(len(phase.samples) / seconds, 2),
    )


def spread(values: Iterable[float]) -> Spread | None:
    """Of some values; nothing has none."""
    found = sorted(values)
    return Spread(quantile(found, 0.5), quantile(found, 0.95)) if found else None


def quantile(ordered: Sequence[float], share: float) -> float:
    """The least of the values that `share` of them do not exceed."""
    place = max(1, math.ceil(share * len(ordered) - 1e-9))
    return round(ordered[place - 1], 3)
