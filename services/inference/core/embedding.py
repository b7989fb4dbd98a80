"""How many inputs of an embedding a model is given at a time. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

_BYTES_PER_TOKEN = 2
"""Of text, estimated low: English has four, and to be wrong costs a smaller batch only."""


class Bounds(msgspec.Struct, frozen=True):
    """What a model takes at a time: so many inputs, so many tokens together."""

    inputs: int = 1
    tokens: int = 250_000


def weight(one: str | Sequence[int]) -> int:
    """The tokens of an input: counted, or estimated from its text."""
    return len(one.encode()) // _BYTES_PER_TOKEN + 1 if isinstance(one, str) else len(one)


def batches(inputs: Sequence[str | Sequence[int]], bounds: Bounds) -> Iterator[tuple[int, int]]:
    """First and last place (exclusive) of each batch: all inputs once, in their order.

    An input that is larger than a batch may be is one by itself: the model knows better.
    """
    start = total = 0
    for place, one in enumerate(inputs):
        size = weight(one)
        if place > start and (place - start == bounds.inputs or total + size > bounds.tokens):
            yield start, place
            start, total = place, 0
        total += size
    if inputs:
        yield start, len(inputs)
