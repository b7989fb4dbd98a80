"""`POST /v1/embeddings`: the body, and OpenAI's list of vectors."""

from __future__ import annotations

import base64
import struct
from typing import Annotated, Literal

from pydantic import Field

from services.ingress.core.tasks.bodies import Body, Text
from shared.contracts.retrieval import EmbedReply
from shared.errors import Permanent

Json = dict[str, object]


class EmbeddingsBody(Body):
    """Texts to embed. Token arrays and other dimensions are not supported."""

    model: str = Field(examples=["all-MiniLM-L6-v2"])
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=256)]
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None

    def texts(self) -> tuple[str, ...]:
        """The texts in order."""
        return (self.input,) if isinstance(self.input, str) else tuple(self.input)


def embeddings(body: EmbeddingsBody, reply: EmbedReply) -> Json:
    """The answer.

    Raises:
        Permanent: `model_not_found` where the index was built with another model.
    """
    if body.model != reply.model:
        raise Permanent(
            "model_not_found", f"The embedding model here is {reply.model!r}", field="model"
        )
    return {
        "object": "list",
        "model": reply.model,
        "data": [
            {"object": "embedding", "index": index, "embedding": _vector(body, vector)}
            for index, vector in enumerate(reply.vectors)
        ],
        "usage": {"prompt_tokens": reply.tokens, "total_tokens": reply.tokens},
    }


def _vector(body: EmbeddingsBody, vector: tuple[float, ...]) -> str | list[float]:
    if body.encoding_format == "float":
        return list(vector)
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
