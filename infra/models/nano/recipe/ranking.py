"""What the search tool makes of passages: their order, and in each the sentence that answers best.

Where another one answers nearly as well, both are marked.

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
LIKE = {
    "answer": 1.0, "near": 0.98, "same topic": 0.75, "rival": 0.42, "other": 0.16, "filler": 0.16,
}  # fmt: skip
SPREAD, CLOSE = 0.115, 0.13
"""Mean and spread of the tool's scores by role, and how near a second sentence is marked too."""


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
    scored = [(*drawn(rng, passage.sentences), passage) for passage in passages]
    scored.sort(key=lambda row: -row[0])
    return "\n".join(
        f"[{number}] {one.file}: {one.lead}{shown([s.text for s in one.sentences], marked)}"
        for number, (_, marked, one) in enumerate(scored, 1)
    )


def drawn(rng: random.Random, sentences: list[Sentence]) -> tuple[float, set[int]]:
    """The best score of a passage and which of its sentences are marked; the answer is one."""
    answers = {index for index, one in enumerate(sentences) if one.role == "answer"}
    while True:
        likes = [rng.gauss(LIKE[sentence.role], SPREAD) for sentence in sentences]
        order = sorted(range(len(likes)), key=lambda index: -likes[index])
        marked = {index for index in order[:2] if likes[order[0]] - likes[index] < CLOSE}
        if answers <= marked:
            return likes[order[0]], marked


def shown(sentences: list[str], marked: set[int]) -> str:
    """A passage with its best sentences marked."""
    return " ".join(
        f"{MARK}{text}{MARK}" if index in marked else text for index, text in enumerate(sentences)
    )


def highlights(result: str, file: str) -> list[str]:
    """What is marked in the passage of a file, in the order of the text."""
    line = re.search(rf"^\[\d+\] {re.escape(file)}: (.*)$", result, re.MULTILINE)
    return re.findall(r"\*\*(.+?)\*\*", line[1]) if line else []
