"""Owns the token ids of pieces of prompts that were met before.

Must not know tokenizers. A loop renders its whole transcript for every step; all but the end of it
has been read into tokens already.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence

_MOST_CHARACTERS = 16 << 20


class PiecesCache:
    """Text to token ids, the least recently used go first. `salt` keeps tenants apart: how long

    reading takes would tell one what another has sent.
    """

    def __init__(self, most_characters: int = _MOST_CHARACTERS) -> None:
        self._most, self._held = most_characters, 0
        self._ids: OrderedDict[tuple[str, str], array[int]] = OrderedDict()

    def get(self, salt: str, text: str) -> Sequence[int] | None:
        """The ids of a piece, where it was met."""
        found = self._ids.get((salt, text))
        if found is not None:
            self._ids.move_to_end((salt, text))
        return found

    def put(self, salt: str, text: str, ids: Sequence[int]) -> None:
        """Remember a piece that is not there."""
        self._ids[salt, text] = array("I", ids)
        self._held += len(text)
        while self._held > self._most:
            (_, oldest), _ = self._ids.popitem(last=False)
            self._held -= len(oldest)
