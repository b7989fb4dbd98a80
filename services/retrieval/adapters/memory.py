"""Owns the in-memory twin of the vector store: exact cosine over all rows, nothing survives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.retrieval.core.filters import Filter, Value, scope
from services.retrieval.core.rows import DocumentKey, Hit, Row, Vector, passing
from services.retrieval.ports import Query


@dataclass(frozen=True, slots=True)
class _Stored:
    """A row with its address."""

    fields: dict[str, Value]
    row: Row


class MemoryStore:
    """Keeps the guarantees of the port within one process; `open` always finds it as it was."""

    engine = "memory"

    def __init__(self) -> None:
        self._rows: dict[str, _Stored] = {}

    async def open(self) -> bool:
        """Nothing to prepare."""
        return not self._rows

    async def replace(self, key: DocumentKey, sequence: int, rows: Sequence[Row]) -> None:
        """Old rows out, new rows in; nothing runs in between."""
        document = _document(key)
        if self._matching(document.also("sequence", ">", sequence)):
            return
        await self.delete(key, sequence)
        fields: dict[str, Value] = {
            "tenant": key.tenant,
            "collection": key.collection,
            "document": key.document,
            "sequence": sequence,
        }
        self._rows |= {row.id: _Stored(fields, row) for row in rows}

    async def delete(self, key: DocumentKey, sequence: int) -> None:
        """Remove what is not newer."""
        for stored in self._matching(_document(key).also("sequence", "<", sequence + 1)):
            del self._rows[stored.row.id]

    async def clear(self) -> None:
        """Nothing is left."""
        self._rows.clear()

    async def search(self, query: Query) -> list[Hit]:
        """Every row of the scope, compared."""
        found = self._matching(scope(query.tenant, query.collection))
        hits = [_hit(stored, _cosine(query.vector, stored.row.vector)) for stored in found]
        return passing(hits, query.min_score, query.limit)

    async def count(self) -> int:
        """Rows of all tenants."""
        return len(self._rows)

    async def close(self) -> None:
        """Nothing to let go of."""

    def _matching(self, wanted: Filter) -> list[_Stored]:
        return [stored for stored in self._rows.values() if wanted.matches(stored.fields)]


def _document(key: DocumentKey) -> Filter:
    return scope(key.tenant, key.collection).also("document", "==", key.document)


def _cosine(a: Vector, b: Vector) -> float:
    dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))


def _hit(stored: _Stored, score: float) -> Hit:
    return Hit(
        document=str(stored.fields["document"]),
        text=stored.row.text,
        start=stored.row.start,
        end=stored.row.end,
        sequence=int(stored.fields["sequence"]),
        score=score,
    )
