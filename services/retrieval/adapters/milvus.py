"""Owns the Milvus index: schema, writes in order, searches within one scope.

Measured traps that shape it (facts: retrieval.md sections 1, 2 and 7): concurrent writers lose
rows on Milvus Lite, so all writes go through one thread; filtered HNSW loses recall, so the index
is FLAT; unflushed rows are slow to scan; a reopened collection must be loaded; ids given by users
are injectable in `get` and `delete`, so only rendered filters are used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from services.retrieval.adapters.gate import Gate
from services.retrieval.adapters.milvus_client import (
    READ,
    SLOW,
    WRITE,
    Client,
    DataType,
    MilvusBorder,
)
from services.retrieval.core.filters import Filter, scope
from services.retrieval.core.rows import MAX_DOCUMENT_ID, DocumentKey, Hit, Row, passing
from services.retrieval.ports import Query
from shared.errors import MillraceError
from shared.telemetry import Log

PREFIX = "millrace_"
_BATCH = 400
_FLUSH_ROWS, _FLUSH_AFTER = 500, 2.0
_PARTITIONS = 16
_TEXT_BYTES = 65_535
_OUTPUT = ["document", "text", "start", "end", "sequence"]


class MilvusStore:
    """The index of one tag: a collection named after it; those of other tags are dropped.

    One process at a time writes a Milvus Lite file (the file is locked). Where Milvus is a server,
    replicas share the consumer of DOCS and versions are compared by sequence.
    """

    def __init__(self, border: MilvusBorder, tag: str, dimension: int, log: Log) -> None:
        self._border, self._dimension, self._log = border, dimension, log
        self._name = f"{PREFIX}{tag}"
        self._unflushed = 0
        self._flusher: asyncio.Task[None] | None = None
        self._version = ""
        self._gate = Gate()

    @property
    def engine(self) -> str:
        """`milvus_lite-<version>` or the server's version."""
        return self._version

    async def open(self) -> bool:
        """Connect, drop what was built otherwise, create or load the collection."""
        self._version = await self._border.connect()
        await self._border.write(_prepare, self._name, self._dimension)
        return await self.count() == 0

    async def replace(self, key: DocumentKey, sequence: int, rows: Sequence[Row]) -> None:
        """New passages first, then the old ones go: a search in between finds either."""
        records = [_record(key, sequence, row) for row in rows]
        await self._border.write(_replace, self._name, _document(key), sequence, records)
        await self._written(len(records) + 1)

    async def delete(self, key: DocumentKey, sequence: int) -> None:
        """By filter, never by ids."""
        old = _document(key).also("sequence", "<", sequence + 1)
        await self._border.write(_delete, self._name, old)
        await self._written(1)

    async def clear(self) -> None:
        """Another collection of the same name; who asks meanwhile is answered by that one."""
        async with self._gate.alone():
            await self._border.write(_renew, self._name, self._dimension)

    async def search(self, query: Query) -> list[Hit]:
        """Exact nearest neighbours within the scope."""
        async with self._gate.among_others():
            hits = await self._border.read(_search, self._name, query)
        return passing(hits, query.min_score, query.limit)

    async def count(self) -> int:
        """Rows of all tenants."""
        async with self._gate.among_others():
            return await self._border.read(_count, self._name)

    async def close(self) -> None:
        """Write what is in memory and let go of the file."""
        if self._flusher is not None:
            self._flusher.cancel()
        await self._flush()
        await self._border.close()

    async def _written(self, rows: int) -> None:
        """Milvus Lite scans rows that are not flushed in Python; a server flushes by itself."""
        if not self._border.lite:
            return
        self._unflushed += rows
        if self._unflushed >= _FLUSH_ROWS:
            await self._flush()
        elif self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush_later())

    async def _flush_later(self) -> None:
        await asyncio.sleep(_FLUSH_AFTER)
        await self._flush()

    async def _flush(self) -> None:
        """Only speed depends on it: acknowledged rows are in the write-ahead log already."""
        if not self._unflushed:
            return
        self._unflushed = 0
        try:
            await self._border.write(_flush, self._name)
        except MillraceError as error:
            self._log.warning("index.flush_failed", error=str(error))


def _document(key: DocumentKey) -> Filter:
    return scope(key.tenant, key.collection).also("document", "==", key.document)


def _record(key: DocumentKey, sequence: int, row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "tenant": key.tenant,
        "collection": key.collection,
        "document": key.document,
        "text": row.text,
        "start": row.start,
        "end": row.end,
        "sequence": sequence,
        "vector": list(row.vector),
    }


# -- what runs in the threads of the border ------------------------------------------------------


def _prepare(client: Client, name: str, dimension: int) -> None:
    present = client.list_collections(timeout=READ)
    for other in present:
        if other.startswith(PREFIX) and other != name:
            client.drop_collection(other, timeout=SLOW)
    if name not in present:
        index = client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="COSINE")
        client.create_collection(
            name,
            schema=_schema(client, dimension),
            index_params=index,
            num_partitions=_PARTITIONS,
            timeout=SLOW,
        )
    client.load_collection(name, timeout=SLOW)


def _renew(client: Client, name: str, dimension: int) -> None:
    """In one go: a write that comes meanwhile finds the new one."""
    client.drop_collection(name, timeout=SLOW)
    _prepare(client, name, dimension)


def _schema(client: Client, dimension: int) -> Any:  # noqa: ANN401 - untyped library
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("tenant", DataType.VARCHAR, is_partition_key=True, max_length=64)
    schema.add_field("collection", DataType.VARCHAR, max_length=64)
    schema.add_field("document", DataType.VARCHAR, max_length=4 * MAX_DOCUMENT_ID)
    schema.add_field("text", DataType.VARCHAR, max_length=_TEXT_BYTES)
    for field in ("start", "end", "sequence"):
        schema.add_field(field, DataType.INT64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    return schema


def _replace(
    client: Client, name: str, document: Filter, sequence: int, records: list[dict[str, Any]]
) -> None:
    newer = document.also("sequence", ">", sequence).expression()
    if client.query(
        name,
        filter=newer,
        output_fields=["sequence"],
        limit=1,
        consistency_level="Strong",
        timeout=WRITE,
    ):
        return
    for at in range(0, len(records), _BATCH):
        client.upsert(name, records[at : at + _BATCH], timeout=WRITE)
    _delete(client, name, document.also("sequence", "<", sequence))


def _delete(client: Client, name: str, wanted: Filter) -> None:
    client.delete(name, filter=wanted.expression(), timeout=WRITE)


def _count(client: Client, name: str) -> int:
    rows = client.query(name, filter="", output_fields=["count(*)"], timeout=READ)
    return int(rows[0]["count(*)"])


def _flush(client: Client, name: str) -> None:
    client.flush(name, timeout=SLOW)


def _search(client: Client, name: str, query: Query) -> list[Hit]:
    found = client.search(
        name,
        data=[list(query.vector)],
        anns_field="vector",
        filter=scope(query.tenant, query.collection).expression(),
        limit=query.limit,
        output_fields=_OUTPUT,
        search_params={"metric_type": "COSINE"},
        consistency_level="Strong" if query.fresh else "Bounded",
        timeout=READ,
    )
    return [Hit(**row["entity"], score=float(row["distance"])) for row in found[0]]
