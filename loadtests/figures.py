"""Distributions of times, small however long the load lasts, and what they are of. Pure."""

from __future__ import annotations

import math

import msgspec

from loadtests.took import Took
from shared.errors import MillraceError, Transient

_STEP = math.log(1.02)
"""Of two neighbouring buckets the upper is two per cent higher: as exact as a run can be."""
_LEAST = 1e-6
_REASONS = 20


class Times(msgspec.Struct):
    """Seconds, in buckets of two per cent; the sum and the greatest are exact."""

    buckets: dict[int, int] = msgspec.field(default_factory=dict)
    total: float = 0.0
    most: float = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        bucket = math.ceil(math.log(max(seconds, _LEAST)) / _STEP)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        self.total += seconds
        self.most = max(self.most, seconds)

    def merge(self, other: Times) -> None:
        """All of another distribution."""
        for bucket, number in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + number
        self.total += other.total
        self.most = max(self.most, other.most)

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.buckets.values())

    def quantile(self, share: float) -> float | None:
        """The least of them that `share` of them do not exceed; nothing has none."""
        left = max(1, math.ceil(share * self.count - 1e-9))
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 0:
                return min(self.most, math.exp((bucket - 0.5) * _STEP))
        return None


class Figures(msgspec.Struct):
    """Of one operation of one tenant."""

    times: Times = msgspec.field(default_factory=Times)
    first: Times = msgspec.field(default_factory=Times)
    gaps: Times = msgspec.field(default_factory=Times)
    tokens: int = 0
    steps: int = 0
    refused: int = 0
    failures: dict[str, int] = msgspec.field(default_factory=dict)
    """Reason -> how often."""

    def took(self, took: Took) -> None:
        """One went right."""
        self.times.add(took.seconds)
        if took.first is not None:
            self.first.add(took.first)
        if took.gap is not None:
            self.gaps.add(took.gap)
        self.tokens += took.tokens
        self.steps += took.steps

    def failed(self, error: MillraceError) -> None:
        """One went wrong, or was refused because there was too much to do."""
        if isinstance(error, Transient) and error.code == "refused":
            self.refused += 1
            return
        reason = str(error)
        if reason not in self.failures and len(self.failures) >= _REASONS:
            reason = "other reasons"
        self.failures[reason] = self.failures.get(reason, 0) + 1

    def merge(self, other: Figures) -> None:
        """All of another one."""
        self.times.merge(other.times)
        self.first.merge(other.first)
        self.gaps.merge(other.gaps)
        self.tokens += other.tokens
        self.steps += other.steps
        self.refused += other.refused
        for reason, number in other.failures.items():
            self.failures[reason] = self.failures.get(reason, 0) + number

    @property
    def failed_count(self) -> int:
        """How many went wrong."""
        return sum(self.failures.values())

    @property
    def count(self) -> int:
        """How many there were, however they ended."""
        return self.times.count + self.refused + self.failed_count


class Book(msgspec.Struct):
    """The figures of one phase: operation -> tenant -> figures."""

    figures: dict[str, dict[str, Figures]] = msgspec.field(default_factory=dict)

    def of(self, operation: str, tenant: str) -> Figures:
        """Those of one operation of one tenant, to be written to."""
        return self.figures.setdefault(operation, {}).setdefault(tenant, Figures())

    def whole(self, operation: str) -> Figures:
        """Those of one operation over all tenants."""
        found = Figures()
        for figures in self.figures.get(operation, {}).values():
            found.merge(figures)
        return found
