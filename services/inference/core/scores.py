"""Owns which log-probabilities belong to which piece of text.

Must not know tokenizers or engines. Text becomes certain later than its tokens (half characters,
stop strings, tool markup); a token's numbers go out with the text that it begins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from shared.contracts.tokens import Logprob


class Scores:
    """The tokens of one answer that wait for their text."""

    def __init__(self) -> None:
        self._waiting: deque[Logprob] = deque()
        self._due = 0

    def add(self, tokens: Iterable[Logprob]) -> None:
        """The next tokens of the answer."""
        self._waiting.extend(tokens)

    def take(self, text: str) -> tuple[Logprob, ...]:
        """The tokens that begin in the next piece of text."""
        self._due += len(text.encode("utf-8", "replace"))
        taken: list[Logprob] = []
        while self._due > 0 and self._waiting:
            token = self._waiting.popleft()
            self._due -= len(token.bytes or ())
            taken.append(token)
        return tuple(taken)

    def forget(self) -> None:
        """What waits is markup, not text, and so is not shown."""
        self._waiting.clear()
        self._due = 0
