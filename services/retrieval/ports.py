"""What retrieval needs from outside, with what each part guarantees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.retrieval.core.rows import DocumentKey, Hit, Row, Vector


@dataclass(frozen=True, slots=True)
class Embedded:
    """One unit vector per text, in order; `tokens` is what the model read."""

    vectors: list[Vector]
    tokens: int


@dataclass(frozen=True, slots=True)
class Query:
    """A search. `fresh` asks for all writes that were acknowledged before it."""

    tenant: str
    collection: str
    vector: Vector
    limit: int
    min_score: float = 0.0
    fresh: bool = False


class Embedder(Protocol):
    """Texts to vectors.

    Guarantees: the same text gives the same unit vector on every machine and in every batch (to
    f32 rounding); the event loop is never blocked; texts beyond the model's context are cut.
    """

    @property
    def model(self) -> str:
        """The public name of the model."""
        ...

    @property
    def tag(self) -> str:
        """Name, dimension and weights: vectors of different tags must not be compared."""
        ...

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        ...

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Vectors of the texts; no texts, no vectors."""
        ...

    def count_tokens(self, text: str) -> int:
        """The length of a text in the model's tokens, without cutting. Safe in any thread."""
        ...


class VectorStore(Protocol):
    """Passages with vectors, apart by tenant and collection.

    Guarantees: after `replace` or `delete` returns, searches see it and a restart keeps it; a
    repetition changes nothing; a version older than the stored one changes nothing; while a
    document is replaced, searches see old or new passages, never none; no answer holds another
    tenant's or collection's passage. Vectors are checked by the caller.

    Raises:
        Transient: `index_unavailable`, from every method: no harm is done, try again.
    """

    async def open(self) -> bool:
        """Make it ready; True where it is empty and has to be filled from DOCS."""
        ...

    async def replace(self, key: DocumentKey, sequence: int, rows: Sequence[Row]) -> None:
        """Make `rows` the passages of this document."""
        ...

    async def delete(self, key: DocumentKey, sequence: int) -> None:
        """Remove all passages of the document that are not newer than `sequence`."""
        ...

    async def clear(self) -> None:
        """Remove everything, as if it had never been there; also where it is damaged."""
        ...

    async def search(self, query: Query) -> list[Hit]:
        """The nearest passages that reach the score, best first."""
        ...

    async def count(self) -> int:
        """Passages of all tenants."""
        ...

    @property
    def engine(self) -> str:
        """Name and version of the database."""
        ...

    async def close(self) -> None:
        """Write everything and let go of files and connections. Repeating it is harmless."""
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """How far DOCS has been indexed: see `IndexState`."""

    watermark: int
    newest: int
    remaining: int


class Progress(Protocol):
    """How far DOCS has been indexed.

    Raises:
        Transient: the bus does not answer.
    """

    async def watermark(self) -> int:
        """The sequence up to which every document version is in the index (or was given up)."""
        ...

    async def standing(self) -> Standing:
        """The watermark, and what lies beyond it."""
        ...

    async def rewind(self) -> int:
        """Start over from the first document; whoever reads goes on reading. How many there are."""
        ...
