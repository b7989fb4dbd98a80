"""Owns the way from token bytes to text that may be shown: UTF-8 assembly and stop strings.

Must not know tokens, models, tools or transport. Both classes give the same output for every
way of cutting the same input into pieces, and never show a character they would take back.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class Utf8Assembler:
    """Turns pieces of bytes into text and holds back an incomplete last character."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, piece: bytes) -> str:
        """Return the characters that are complete now; invalid bytes become U+FFFD."""
        return self._decoder.decode(piece)

    def finish(self) -> str:
        """Return what was held back, as U+FFFD."""
        return self._decoder.decode(b"", True)


def held_back(text: str, words: Sequence[str]) -> int:
    """How many last characters of `text` may be the beginning of one of `words`."""
    longest = min(len(text), max((len(word) for word in words), default=1) - 1)
    for length in range(longest, 0, -1):
        tail = text[-length:]
        if any(len(word) > length and word.startswith(tail) for word in words):
            return length
    return 0


class StopStrings:
    """Cuts text exactly before the stop string that is complete first.

    "First" is by the end of the occurrence, as if the characters came one by one; of two that end
    together the longer one wins. This makes the cut independent of the size of the pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._pending = ""
        self._hit: str | None = None

    @property
    def hit(self) -> str | None:
        """The stop string that ended the text, or None."""
        return self._hit

    def feed(self, text: str) -> str:
        """Return the text that is certainly before any stop string."""
        if self._hit is not None:
            return ""
        if not self._stops:
            return text
        self._pending += text
        found = self._first_complete()
        if found is not None:
            start, self._hit = found
            safe, self._pending = self._pending[:start], ""
            return safe
        cut = len(self._pending) - held_back(self._pending, self._stops)
        safe, self._pending = self._pending[:cut], self._pending[cut:]
        return safe

    def finish(self) -> str:
        """Return what was held back: the stream ended before it became a stop string."""
        rest, self._pending = self._pending, ""
        return rest

    def _first_complete(self) -> tuple[int, str] | None:
        best: tuple[int, int, str] | None = None
        for stop in self._stops:
            start = self._pending.find(stop)
            if start >= 0 and (best is None or (start + len(stop), start) < best[:2]):
                best = (start + len(stop), start, stop)
        return None if best is None else (best[1], best[2])
