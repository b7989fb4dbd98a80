"""Owns the values between the handlers and the vector store, and the checks on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shared.contracts.base import decode
from shared.contracts.documents import DocumentChanged
from shared.errors import Permanent
from shared.subjects import document_subject, parse_document

Vector = Sequence[float]
MAX_DOCUMENT_ID = 512
"""Characters; 2,048 bytes in the worst case, which is what the index reserves."""
_UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class DocumentKey:
    """The address of a document."""

    tenant: str
    collection: str
    document: str


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A version of a document with its place in DOCS."""

    key: DocumentKey
    sequence: int
    text: str
    deleted: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A passage as it is indexed."""

    id: str
    text: str
    start: int
    end: int
    vector: Vector


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found, with its cosine similarity."""

    document: str
    text: str
    start: int
    end: int
    sequence: int
    score: float


def read_document(subject: str, sequence: int, body: bytes) -> StoredDocument:
    """A message of DOCS.

    Raises:
        Permanent: it is no document, or its id cannot be indexed.
    """
    tenant, collection = parse_document(subject)
    change = decode(body, DocumentChanged)
    if not 0 < len(change.document) <= MAX_DOCUMENT_ID or any(ord(c) < 32 for c in change.document):
        raise Permanent(
            "invalid_document",
            f"a document id has 1 to {MAX_DOCUMENT_ID} characters and no control characters",
            field="document",
        )
    if document_subject(tenant, collection, change.document) != subject:
        raise Permanent(
            "invalid_document", "the subject is that of another document", field="document"
        )
    key = DocumentKey(tenant, collection, change.document)
    return StoredDocument(key, sequence, change.text, change.op == "delete")


def check_vector(vector: Vector, dimension: int) -> Vector:
    """`vector`, if it is a unit vector: Milvus Lite would accept NaN in silence.

    Raises:
        Permanent: `invalid_vector`.
    """
    norm = math.sqrt(math.fsum(x * x for x in vector))
    if len(vector) != dimension or not abs(norm - 1) < _UNIT_TOLERANCE:
        raise Permanent(
            "invalid_vector",
            f"{len(vector)} numbers of norm {norm:.4g} instead of {dimension} of norm 1",
        )
    return vector


def passing(hits: Sequence[Hit], min_score: float, limit: int) -> list[Hit]:
    """The best `limit` hits that reach `min_score`, best first; ties keep a stable order."""
    ranked = sorted(hits, key=lambda hit: (-hit.score, hit.document, hit.start))
    return [hit for hit in ranked if hit.score >= min_score][:limit]


class Applied:
    """Remembers the newest version of each document that was applied, the last `size` of them.

    A deletion leaves no row behind that could refuse an older version coming late; this does.
    """

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._newest: dict[DocumentKey, int] = {}

    def outdated(self, key: DocumentKey, sequence: int) -> bool:
        """Whether a newer version was applied already."""
        return self._newest.get(key, 0) > sequence

    def record(self, key: DocumentKey, sequence: int) -> None:
        """A version was applied."""
        newest = max(sequence, self._newest.pop(key, 0))
        self._newest[key] = newest
        if len(self._newest) > self._size:
            del self._newest[next(iter(self._newest))]
