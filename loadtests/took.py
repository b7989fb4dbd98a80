"""What one operation took. Pure; times are given."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds of one operation that went right.

    `first` is the time to the first token and `gap` the longest pause between two pieces, both
    for streams only. `tokens` were written by the model; `steps` are those of a task, where told.
    """

    seconds: float
    first: float | None = None
    gap: float | None = None
    tokens: int = 0
    steps: int = 0


class Stopwatch:
    """Runs from the first byte sent to the last received."""

    def __init__(self, now: float) -> None:
        self._begun = now
        self._first: float | None = None
        self._last = now
        self._gap: float | None = None

    def piece(self, now: float) -> None:
        """A piece of text has come."""
        if self._first is None:
            self._first = now - self._begun
        else:
            self._gap = max(self._gap or 0.0, now - self._last)
        self._last = now

    def took(self, now: float, tokens: int = 0, steps: int = 0) -> Took:
        """The end."""
        return Took(now - self._begun, self._first, self._gap, tokens, steps)
