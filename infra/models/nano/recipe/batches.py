"""What the model learns from: generated sessions and copying exercises as batches of tokens.

Owns rows, packing by length and the tensors of a batch. Knows nothing of models and schedules.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from .conversation import WEIGHTS, session
from .tokenizer import encode
from .vocabulary import Voice

Row = tuple[list[int], list[bool]]
POOL = 320
"""How many rows at least are sorted by length before they are cut into batches."""


@dataclass(frozen=True)
class Batch:
    """Ids padded on the right, and where in the flattened ids stands what comes before a target.

    A negative place is none: it pads.
    """

    ids: Tensor
    at: Tensor

    def to(self, device: str) -> Batch:
        """The same on a device, without waiting for the copy."""
        if device == "cpu":
            return self
        return Batch(*(one.pin_memory().to(device, non_blocking=True) for one in self))

    def counted(self) -> tuple[int, int]:
        """How many tokens and how many targets there are."""
        return int((self.ids != 0).sum()), int((self.at >= 0).sum())

    def __iter__(self) -> Iterator[Tensor]:
        """Both tensors."""
        return iter((self.ids, self.at))


def drill(rng: random.Random, vocab: int, level: float) -> Row:
    """Copying exercises with random tokens: repeat a sequence, or look up a line by its key.

    `level` from 0 to 1 makes them longer: short ones teach where to look, long ones precision.
    """

    def some(low: int, high: int) -> list[int]:
        return [rng.randrange(7, vocab) for _ in range(rng.randint(low, high))]

    if rng.random() < 0.5:
        body = some(3, 6 + int(44 * level))
        ids = [0, *body, 0]
        done = len(ids)
        while len(ids) < done + 24:
            ids += [*body[rng.randrange(0, 1 + len(body) // 3) :], 0]
        return ids, [index > done for index in range(len(ids))]
    count = rng.randint(2, 3 + int(6 * level))
    lines = [(some(1, 2), some(1, 3 + int(6 * level))) for _ in range(count)]
    ids = [0]
    for key, value in lines:
        ids += [*key, 3, *value, 4]
    wanted = [False] * len(ids)
    for key, value in rng.choices(lines, k=4):
        ids += [*key, 3, *value, 4]
        wanted += [False] * (len(key) + 1) + [True] * (len(value) + 1)
    return ids, wanted


def rows(
    tokenizer: Tokenizer, voice: Voice, longest: int, weights: dict[str, int] = WEIGHTS
) -> Iterator[Row]:
    """Sessions as rows; one in thirty may be far longer than the rest."""
    while True:
        long = voice.chance(0.03)
        count = voice.rng.randint(5, 8) if long else None
        row = encode(tokenizer, session(voice, count, weights))
        if len(row[0]) <= (1800 if long else longest):
            yield row


def rounded(length: int, grain: int) -> int:
    """The next multiple of the grain."""
    return -(-length // grain) * grain


def packed(
    source: Iterator[Row], budget: int, rng: random.Random, grain: int = 1
) -> Iterator[list[Row]]:
    """Batches of similar lengths, each padded to the grain, within a token budget."""
    count = max(POOL, budget // 24)
    while True:
        pool = sorted((next(source) for _ in range(count)), key=lambda row: len(row[0]))
        batches: list[list[Row]] = [[]]
        for row in pool:
            if batches[-1] and (len(batches[-1]) + 1) * rounded(len(row[0]), grain) > budget:
                batches.append([])
            batches[-1].append(row)
        rng.shuffle(batches)
        yield from batches


def tensors(batch: list[Row], grain: int = 16, budget: int = 0) -> Batch:
    """The rows of a batch side by side; with empty ones behind up to the budget, if there is one.

    An accelerator is fast with shapes that it has met before, so there should be few.
    """
    width = rounded(max(len(ids) for ids, _ in batch), grain)
    height = max(len(batch), budget // width)
    ids = torch.zeros(height, width, dtype=torch.long)
    wanted = torch.zeros(height, width, dtype=torch.bool)
    for index, (row, mask) in enumerate(batch):
        ids[index, : len(row)] = torch.tensor(row)
        wanted[index, : len(row)] = torch.tensor(mask)
    wanted[:, 0] = False
    at = wanted.flatten().nonzero().flatten() - 1
    padding = rounded(len(at), 4096) - len(at) if budget else 0
    return Batch(ids, F.pad(at, (0, padding), value=-1))
