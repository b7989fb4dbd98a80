"""Questions to the retrieval service (core request/reply) and their answers."""

from __future__ import annotations

from shared.contracts.base import Message
from shared.errors import Failure


class SearchRequest(Message, frozen=True):
    """`retrieval.search`. With `min_seq` the answer waits until that DOCS sequence is indexed.

    With `highlight` every passage says which of its sentences answers best (two, where they are
    about as good), and the passage with the best sentence comes first.
    """

    tenant: str
    collection: str
    query: str
    limit: int = 3
    min_score: float = 0.0
    """Cosine similarity below which a passage is left out."""
    min_seq: int = 0
    highlight: bool = False


class Passage(Message, frozen=True):
    """A piece of a document: its text, offsets (characters) and cosine similarity.

    `highlight` is the sentence that answers best, on one line; empty where none was asked for.
    `runner_up` is another one that answers about as well, where there is one.
    """

    document: str
    text: str
    score: float
    start: int
    end: int
    sequence: int
    highlight: str = ""
    runner_up: str = ""


class SearchReply(Message, frozen=True):
    """Passages, best first; `watermark` is the DOCS sequence the index has reached."""

    results: tuple[Passage, ...] = ()
    watermark: int = 0
    error: Failure | None = None


class EmbedRequest(Message, frozen=True):
    """`retrieval.embed`: texts to unit vectors of the model's dimension."""

    texts: tuple[str, ...]


class EmbedReply(Message, frozen=True):
    """One vector per text, in order."""

    vectors: tuple[tuple[float, ...], ...] = ()
    model: str = ""
    tokens: int = 0
    error: Failure | None = None


class IndexState(Message, frozen=True):
    """`retrieval.state` and `retrieval.rebuild`: how far the index has come.

    It has everything once `watermark` is `newest`, the last sequence of DOCS; until then it lacks
    `remaining` versions of documents.
    """

    watermark: int = 0
    chunks: int = 0
    model: str = ""
    engine: str = ""
    error: Failure | None = None
    newest: int = 0
    remaining: int = 0
