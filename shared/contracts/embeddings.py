"""What is to become vectors, and the form in which a vector travels."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence

from msgspec.structs import replace

from shared.contracts.base import Message
from shared.errors import Permanent

MOST_INPUTS = 2048
"""Of one request, as OpenAI has it."""


class EmbeddingInput(Message, frozen=True):
    """Texts, or lists of token ids in the vocabulary of the model: one of both.

    `dimensions` asks for shorter vectors than the model's own; not every model has such.
    """

    texts: tuple[str, ...] = ()
    tokens: tuple[tuple[int, ...], ...] = ()
    dimensions: int | None = None

    @property
    def each(self) -> Sequence[str | tuple[int, ...]]:
        """The inputs in order, whatever they are."""
        return self.texts or self.tokens

    def part(self, start: int, stop: int) -> EmbeddingInput:
        """Some of the inputs, in their order."""
        return replace(self, texts=self.texts[start:stop], tokens=self.tokens[start:stop])


def check_input(wanted: EmbeddingInput) -> EmbeddingInput:
    """`wanted`, if somebody may ask for it; an input that may not be is named by its place.

    Raises:
        Permanent: `empty_input`, `too_many_inputs`, `invalid_request`.
    """
    if wanted.texts and wanted.tokens:
        raise Permanent("invalid_request", "give texts or token ids, not both", field="input")
    if not wanted.each:
        raise Permanent("empty_input", "there is nothing to embed", field="input")
    if len(wanted.each) > MOST_INPUTS:
        detail = f"{len(wanted.each)} inputs; a request has at most {MOST_INPUTS}"
        raise Permanent("too_many_inputs", detail, field="input")
    for place, one in enumerate(wanted.each):
        if not one:
            raise Permanent("empty_input", f"input {place} is empty", field=f"input.{place}")
        if not isinstance(one, str) and min(one) < 0:
            detail = f"input {place} has a token id below 0"
            raise Permanent("invalid_request", detail, field=f"input.{place}")
    if wanted.dimensions is not None and wanted.dimensions < 1:
        raise Permanent("invalid_request", "dimensions is at least 1", field="dimensions")
    return wanted


def packed(vector: Sequence[float]) -> str:
    """A vector as it travels, and as OpenAI's clients ask for it: float32, little-endian, base64.

    Raises:
        OverflowError: a number is too large for it.
    """
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def unpacked(text: str) -> list[float]:
    """The numbers of a packed vector.

    Raises:
        ValueError: it is none.
    """
    body = base64.b64decode(text, validate=True)
    if len(body) % 4:
        raise ValueError("no whole number of float32")
    return list(struct.unpack(f"<{len(body) // 4}f", body))
