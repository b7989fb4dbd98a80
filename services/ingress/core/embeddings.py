"""`POST /v1/embeddings`: the body, and OpenAI's list of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import orjson
from pydantic import Field

from services.ingress.core.tasks.bodies import Body
from shared.contracts.embeddings import EmbeddingInput, check_input, packed, unpacked
from shared.contracts.retrieval import EmbedReply
from shared.contracts.work import DirectRequest
from shared.errors import Permanent

Json = dict[str, object]
MANY = 64
"""Vectors that are written down beside the loop."""
MOST_BUILT_IN = 128
"""Texts that retrieval embeds in one request."""


class EmbeddingsBody(Body):
    """Texts, or token ids of the model, to embed.

    `dimensions` asks for shorter vectors, where the model has them.
    """

    model: str = Field(examples=["all-MiniLM-L6-v2"])
    input: str | list[str] | list[int] | list[list[int]] = Field(examples=["The mill turns."])
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None

    def wanted(self) -> EmbeddingInput:
        """What is to be embedded.

        Raises:
            Permanent: `empty_input`, `too_many_inputs`, `invalid_request`.
        """
        given = [self.input] if isinstance(self.input, str) else self.input
        texts = tuple(one for one in given if isinstance(one, str))
        tokens = tuple(tuple(one) for one in given if isinstance(one, list))
        if single := tuple(one for one in given if isinstance(one, int)):
            tokens = (single,)  # one input, in token ids
        return check_input(EmbeddingInput(texts=texts, tokens=tokens, dimensions=self.dimensions))


class Vectors(NamedTuple):
    """What was computed: vectors, packed or as numbers, by a model that read so many tokens."""

    model: str
    each: Sequence[str | Sequence[float]]
    tokens: int


def embedding_request(body: EmbeddingsBody, tenant: str, name: str) -> DirectRequest:
    """What is asked of a worker."""
    return DirectRequest(
        id=name,
        tenant=tenant,
        model=body.model,
        messages=(),
        whole=True,
        metadata={"user": body.user} if body.user else {},
        embedding=body.wanted(),
    )


def built_in_texts(body: EmbeddingsBody) -> tuple[str, ...]:
    """What is asked of the built-in model.

    Raises:
        Permanent: `unsupported_demand`, and as `EmbeddingsBody.wanted`.
    """
    wanted = body.wanted()
    if wanted.tokens:
        detail = f"{body.model[:80]!r} takes texts, no token ids"
        raise Permanent("unsupported_demand", detail, field="input")
    if len(wanted.texts) > MOST_BUILT_IN:
        detail = f"{len(wanted.texts)} inputs; {body.model[:80]!r} takes {MOST_BUILT_IN} at a time"
        raise Permanent("too_many_inputs", detail, field="input")
    return wanted.texts


def built_in_vectors(body: EmbeddingsBody, reply: EmbedReply) -> Vectors:
    """What it answered.

    Raises:
        Permanent: `model_not_found` where the index was built with another model;
            `unsupported_demand` where its vectors have another length.
    """
    if body.model != reply.model:
        detail = f"there is no model {body.model[:80]!r}; the built-in one is {reply.model!r}"
        raise Permanent("model_not_found", detail, field="model")
    length = len(reply.vectors[0])
    if body.dimensions not in (None, length):
        detail = f"the vectors of {reply.model!r} have {length} dimensions"
        raise Permanent("unsupported_demand", detail, field="dimensions")
    return Vectors(reply.model, reply.vectors, reply.tokens)


def embeddings(body: EmbeddingsBody, found: Vectors) -> Json:
    """The answer."""
    return {
        "object": "list",
        "model": found.model,
        "data": [
            {"object": "embedding", "index": index, "embedding": _shown(body, vector)}
            for index, vector in enumerate(found.each)
        ],
        "usage": {"prompt_tokens": found.tokens, "total_tokens": found.tokens},
    }


def _shown(body: EmbeddingsBody, vector: str | Sequence[float]) -> str | orjson.Fragment:
    """Digits are written one vector after the other: all of them at once hold up everybody else
    for as long as that takes, in whatever thread it is done."""
    if body.encoding_format == "float":
        numbers = unpacked(vector) if isinstance(vector, str) else vector
        return orjson.Fragment(orjson.dumps(numbers))
    return vector if isinstance(vector, str) else packed(vector)
