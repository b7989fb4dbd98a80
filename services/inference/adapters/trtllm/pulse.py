"""Owns whether an engine is still alive, by whether anything comes from it.

1.2.1 does not notice that a rank has died: requests wait for ever and its health stays good. A
single request may wait long for others, so it is the engine's silence as a whole that counts, and
only while it has something to do.
"""

from __future__ import annotations

from collections.abc import Callable

from services.inference.ports import EngineBroken


class Pulse:
    """The last sign of life, in the loop's seconds; `limit` may change."""

    def __init__(self, limit: float, ticks: Callable[[], float]) -> None:
        self.limit, self._ticks = limit, ticks
        self._last = ticks()
        self._busy = 0
        self.broken: EngineBroken | None = None
        """Why nothing will come any more."""

    @property
    def deadline(self) -> float:
        """When the silence has lasted too long."""
        return self._last + self.limit

    def begun(self) -> None:
        """A request was given to the engine."""
        if not self._busy:
            self.beat()
        self._busy += 1

    def ended(self) -> None:
        """The engine has let go of one."""
        self._busy -= 1

    def beat(self) -> None:
        """Something came."""
        self._last = self._ticks()

    def look(self) -> EngineBroken | None:
        """Why the engine is done for, None where it is well."""
        if self.broken is None and self._busy and self._ticks() >= self.deadline:
            self.broken = EngineBroken(f"nothing came from the engine for {self.limit:g} s")
        return self.broken
