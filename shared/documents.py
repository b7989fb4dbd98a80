"""The client's side of collections: store documents in DOCS, ask the index questions."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from shared.bus.connect import Bus
from shared.bus.kv import KeyValue
from shared.contracts.base import Message, as_token, decode, encode
from shared.contracts.documents import DocumentChanged
from shared.contracts.retrieval import IndexState, SearchReply, SearchRequest
from shared.errors import Permanent, error_of
from shared.subjects import DOCS, INDEX_STATE, SEARCH, document_subject


class Documents:
    """A collection of documents; the index follows stream DOCS."""

    def __init__(self, bus: Bus, tenant: str, collection: str) -> None:
        self._bus, self._tenant, self._collection = bus, tenant, collection
        self._stream = KeyValue.over(bus, DOCS)

    async def upsert(self, document: str, text: str, metadata: dict[str, str] | None = None) -> int:
        """Store a document; answers its sequence, for `min_seq` of a search."""
        change = DocumentChanged(document=document, text=text, metadata=metadata or {})
        return await self._publish(change)

    async def delete(self, document: str) -> int:
        """Remove a document and everything the index holds of it."""
        return await self._publish(DocumentChanged(document=document, op="delete"))

    async def _publish(self, change: DocumentChanged) -> int:
        name = change.document
        if not 1 <= len(name) <= 512 or not name.isprintable():
            raise Permanent(
                "invalid_name", "a document id has 1 to 512 printable characters", field="id"
            )
        subject = document_subject(self._tenant, self._collection, change.document)
        return (await self._bus.publish(subject, encode(change))).seq

    async def get(self, document: str) -> DocumentChanged | None:
        """The newest version of a document, None where there is none."""
        token = as_token(document)
        found = await self._last(token)
        return next((one for one in found if one.op == "put"), None)

    async def list(self) -> list[str]:
        """The ids of the documents, sorted."""
        found = await self._last("*")
        return sorted(one.document for one in found if one.op == "put")

    async def _last(self, token: str) -> Sequence[DocumentChanged]:
        subject = f"docs.{self._tenant}.{self._collection}.{token}"
        entries = await self._stream.entries(subject)
        return [decode(entry.value, DocumentChanged) for entry in entries]

    async def search(
        self, query: str, limit: int = 3, min_score: float = 0.0, min_seq: int = 0
    ) -> SearchReply:
        """Passages that answer a query, best first.

        Raises:
            Transient: `no_responders` while retrieval is away, `index_behind`.
            Permanent: `invalid_message`.
        """
        question = SearchRequest(
            tenant=self._tenant,
            collection=self._collection,
            query=query,
            limit=limit,
            min_score=min_score,
            min_seq=min_seq,
        )
        return await ask(self._bus, SEARCH, question, SearchReply)

    async def state(self) -> IndexState:
        """How far the index has come."""
        body = await self._bus.request(INDEX_STATE, orjson.dumps({}))
        return decode(body, IndexState)


async def ask[A: Message](
    bus: Bus, subject: str, question: Message, kind: type[A], patience: float = 15.0
) -> A:
    """A typed request; an `error` in the reply is raised as the error it stands for."""
    reply = decode(await bus.request(subject, encode(question), patience), kind)
    if (failure := getattr(reply, "error", None)) is not None:
        raise error_of(failure)
    return reply
