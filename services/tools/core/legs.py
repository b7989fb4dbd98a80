"""Owns what is noted of the other services that a tool's call needed. Pure: ticks are an argument.

A tool's own time is in its fact; without this nobody could tell how much of it was somebody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Literal

from shared.contracts.facts import Leg

MOST = 16
"""Of one call: a fact must not grow with what a tool does in a loop."""


def _stopped() -> float:
    return 0.0


class Legs:
    """The legs of one call that began at `begun`; `ticks` gives seconds of the same clock."""

    def __init__(self, ticks: Callable[[], float] = _stopped, begun: float = 0.0) -> None:
        self._ticks, self._begun = ticks, begun
        self._found: list[Leg] = []

    @property
    def found(self) -> tuple[Leg, ...]:
        """What was noted so far."""
        return tuple(self._found)

    @contextmanager
    def leg(self, name: Literal["retrieval"]) -> Generator[dict[str, str | int]]:
        """Times its body, also where that fails; the figures are the body's to fill in."""
        figures: dict[str, str | int] = {}
        start = self._passed()
        try:
            yield figures
        finally:
            if len(self._found) < MOST:
                took = round(self._passed() - start, 3)
                self._found.append(
                    Leg(name=name, start_ms=start, duration_ms=took, figures=figures)
                )

    def _passed(self) -> float:
        return round((self._ticks() - self._begun) * 1000, 3)
