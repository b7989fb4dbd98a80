"""Owns the cutting of a stream of text into deltas worth sending: pure, the time is an argument.

A viewer gains nothing from more than about 50 deltas a second, and each one costs the bus and
every reader (facts: coalesce to 10-30 ms). The first piece goes out at once.
"""

from __future__ import annotations

WINDOW = 0.02
"""Seconds of text that are gathered into one delta."""


class Coalescer:
    """Cuts one answer. `cuts` are the offsets (characters) at which it was cut."""

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._sent_at = float("-inf")
        self._offsets: list[int] = []

    @property
    def cuts(self) -> tuple[int, ...]:
        """Where the text was cut; the last one is the length of what was sent."""
        return tuple(self._offsets)

    def due(self, now: float) -> bool:
        """Whether what comes now would be sent; until then it need not even be read."""
        return now - self._sent_at >= WINDOW

    def feed(self, text: str, now: float, *, last: bool = False) -> list[tuple[int, str]]:
        """Take more text; answers the pieces that are due, each with its index."""
        if text:
            self._waiting.append(text)
        if not self._waiting or not (last or self.due(now)):
            return []
        piece = "".join(self._waiting)
        self._waiting.clear()
        self._sent_at = now
        index = len(self._offsets)
        self._offsets.append((self._offsets[-1] if self._offsets else 0) + len(piece))
        return [(index, piece)]
