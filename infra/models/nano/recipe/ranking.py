"""What the search tool makes of passages: their order, and in each the sentence that answers best.

Owns the shape of the tool's result and a quick stand-in for its embedder, whose similarities were
measured on generated questions. The tool itself is asked by `../searching.py`. Knows nothing of
facts and questions.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

MARK = "**"
LIKE = {"answer": 1.0, "same topic": 0.75, "rival": 0.42, "other": 0.16, "filler": 0.16}
SPREAD = 0.115
"""Mean and spread of the tool's scores by role. So the answer is marked in its passage in 94.7 % of
1,872 generated questions, and by the tool in 94.0 % of 1,192: not every mark is to be believed."""


@dataclass(frozen=True)
class Sentence:
    """A sentence of a passage; `role` is what it is to the question."""

    text: str
    role: str


class Passage(NamedTuple):
    """A piece of a file; the tool names its heading where the text does not."""

    file: str
    sentences: list[Sentence]
    heading: str = ""

    @property
    def lead(self) -> str:
        """What the tool puts in front of the text."""
        body = " ".join(sentence.text for sentence in self.sentences)
        named = self.heading.casefold() in body.casefold()
        return "" if named else f"{self.heading}: "


Rank = Callable[[random.Random, str, list[Passage]], str]


def imagined(rng: random.Random, _: str, passages: list[Passage]) -> str:
    """The result of a tool whose similarities are drawn from what was measured."""
    scored = []
    for passage in passages:
        likes = [rng.gauss(LIKE[sentence.role], SPREAD) for sentence in passage.sentences]
        scored.append((max(likes), likes.index(max(likes)), passage))
    scored.sort(key=lambda row: -row[0])
    return "\n".join(
        f"[{number}] {one.file}: {one.lead}{shown([s.text for s in one.sentences], best)}"
        for number, (_, best, one) in enumerate(scored, 1)
    )


def shown(sentences: list[str], best: int) -> str:
    """A passage with its best sentence marked."""
    return " ".join(
        f"{MARK}{text}{MARK}" if index == best else text for index, text in enumerate(sentences)
    )


def highlight(result: str, file: str) -> str:
    """What is marked in the passage of a file."""
    found = re.search(rf"^\[\d+\] {re.escape(file)}: .*?\*\*(.+?)\*\*", result, re.MULTILINE)
    return found[1] if found else ""
