"""Owns what is asked of an OpenAI-compatible endpoint for vectors, and how they are read. Pure."""

from __future__ import annotations

import math

import msgspec

from services.inference.core.answering import Json
from services.inference.core.embedding import weight
from services.inference.ports import Embedded, EndpointRefused, UnsupportedDemand
from shared.contracts.embeddings import EmbeddingInput, packed, unpacked
from shared.models import ProviderModel


class _Vector(msgspec.Struct):
    embedding: str | list[float]
    index: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _Embeddings(msgspec.Struct):
    data: list[_Vector]
    usage: _Usage | None = None


def embedding_request(row: ProviderModel, wanted: EmbeddingInput) -> Json:
    """The body of a request. Base64 is a quarter of the same numbers in digits, and who does not
    know it sends those; a length that the vectors have anyway is not asked for."""
    body: Json = {
        "model": row.name,
        "input": list(wanted.texts) or [list(one) for one in wanted.tokens],
        "encoding_format": "base64",
    }
    if wanted.dimensions not in (None, row.dimensions):
        body["dimensions"] = wanted.dimensions
    return {name: value for name, value in body.items() if name not in row.extra_body}


def read_vectors(body: bytes, wanted: EmbeddingInput, row: ProviderModel) -> Embedded:
    """What an endpoint answered.

    Raises:
        ValueError, msgspec.MsgspecError: it is no answer.
        UnsupportedDemand: the vectors have another length than was asked for.
        EndpointRefused: they have another length than the models file says.
    """
    found = msgspec.json.decode(body, type=_Embeddings)
    vectors = [_numbers(one) for one in _in_order(found.data, len(wanted.each))]
    lengths = {len(vector) for vector in vectors}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError("vectors of one length, at least 1")
    _check_length(lengths.pop(), wanted, row)
    usage = found.usage or _Usage()
    tokens = usage.total_tokens if usage.prompt_tokens is None else usage.prompt_tokens
    try:
        return Embedded(tuple(map(packed, vectors)), max(0, tokens or 0))
    except OverflowError as error:
        raise ValueError("numbers of float32") from error


def _in_order(data: list[_Vector], count: int) -> list[_Vector]:
    places = [at if one.index is None else one.index for at, one in enumerate(data)]
    if sorted(places) != list(range(count)):
        raise ValueError("one vector for each input")
    return [one for _, one in sorted(zip(places, data, strict=True), key=lambda pair: pair[0])]


def _numbers(one: _Vector) -> list[float]:
    found = one.embedding
    numbers = unpacked(found) if isinstance(found, str) else found
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a number that is none")
    return numbers


def _check_length(length: int, wanted: EmbeddingInput, row: ProviderModel) -> None:
    if wanted.dimensions is not None:
        if length != wanted.dimensions:
            detail = f"the endpoint gave vectors of {length} numbers, not of {wanted.dimensions}"
            raise UnsupportedDemand(detail, field="dimensions")
    elif row.dimensions not in (None, length):
        raise EndpointRefused(
            f"{row.name} gives vectors of {length} numbers, not of {row.dimensions}: "
            "look at `dimensions` in the models file"
        )


def too_long(wanted: EmbeddingInput, told: int | None) -> int:
    """The place of the input that is too long: what the endpoint `told`, else the longest."""
    each = wanted.each
    if told is not None and told < len(each):
        return told
    return max(range(len(each)), key=lambda place: weight(each[place]))
