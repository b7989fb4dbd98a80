"""The client's side of collections: store documents in DOCS, ask the index questions."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from shared.bus import claims
from shared.bus.connect import Bus, PubAck
from shared.bus.kv import Entry, KeyValue
from shared.bus.repeat import until_acknowledged
from shared.clock import mint_id
from shared.contracts.asks import SearchDocuments
from shared.contracts.base import Message, SessionRef, decode, encode
from shared.contracts.claims import Claim, Claimed
from shared.contracts.documents import DocumentChanged
from shared.contracts.log import MSG_ID
from shared.contracts.retrieval import IndexState, SearchReply, SearchRequest
from shared.errors import Permanent, error_of
from shared.subjects import (
    DOCS,
    INDEX_STATE,
    SEARCH,
    ask_subject,
    document_owner,
    document_subject,
)

_GUARD = "Nats-Expected-Last-Subject-Sequence"


class Documents:
    """A collection of documents; the index follows stream DOCS."""

    def __init__(self, bus: Bus, tenant: str, collection: str) -> None:
        self._bus, self._tenant, self._collection = bus, tenant, collection
        self._stream = KeyValue.over(bus, DOCS)

    async def upsert(self, document: str, text: str, metadata: dict[str, str] | None = None) -> int:
        """Store a document; answers its sequence, for `min_seq` of a search.

        Raises:
            Permanent: `invalid_name`, `payload_too_large`; `not_over_nats` with the credentials of
                a tenant's own client, who uploads over HTTP.
            Transient: `bus_unavailable`.
        """
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
        return await self._store(subject, change)

    async def _store(self, subject: str, change: DocumentChanged) -> int:
        """Publish a version; the text of the one before goes with it, where it lay elsewhere.

        Then nobody may have come between: whoever did would lose his text, or leave it behind.
        """
        owner = document_owner(self._tenant, self._collection, change.document)
        body, headers = await self._checked_in(owner, change)
        replaced: tuple[int, Claim] | None = None
        while True:
            before = await until_acknowledged(lambda: self._stream.get(subject))
            if before is not None and before.headers.get(MSG_ID) == headers[MSG_ID]:
                seq = before.revision  # refused just now because it was stored already
                break
            old = _claim_of(before)
            sent = dict(headers)
            if old is not None or claims.CLAIM in headers:
                sent[_GUARD] = str(before.revision if before else 0)
            replaced = (before.revision, old) if before is not None and old is not None else None
            try:
                seq = (await self._published(subject, body, sent)).seq
                break
            except Permanent as error:
                if error.code != "wrong_last_sequence":
                    raise
        if replaced is not None and replaced[0] < seq:
            await claims.discard(self._bus, owner, replaced[1].key)
        return seq

    async def _published(self, subject: str, body: bytes, headers: Mapping[str, str]) -> PubAck:
        return await until_acknowledged(lambda: self._bus.publish(subject, body, headers))

    async def _checked_in(
        self, owner: SessionRef, change: DocumentChanged
    ) -> tuple[bytes, dict[str, str]]:
        """The body to publish and its headers. Every version has parts of its own, since those

        of the version before are removed."""
        body = encode(change)
        key = mint_id("v")
        headers = {MSG_ID: key}
        if len(body) <= claims.limit_of(self._bus):
            return body, headers
        claim = await until_acknowledged(
            lambda: claims.deposit(self._bus, owner, body, keep=claims.FOR_EVER, key=key)
        )
        headers[claims.CLAIM] = "1"
        return encode(Claimed(claim=claim, document=change.document)), headers

    async def get(self, document: str) -> DocumentChanged | None:
        """The newest version of a document, None where there is none."""
        subject = document_subject(self._tenant, self._collection, document)
        entry = await self._stream.get(subject)
        if entry is None:
            return None
        owner = document_owner(self._tenant, self._collection, document)
        body = await claims.opened(self._bus, owner, entry.value, entry.headers)
        found = decode(body, DocumentChanged)
        return found if found.op == "put" else None

    async def list(self) -> list[str]:
        """The ids of the documents, sorted."""
        entries = await self._stream.entries(f"docs.{self._tenant}.{self._collection}.*")
        # of a text that lies elsewhere the message still says whose it is
        found = [decode(entry.value, DocumentChanged) for entry in entries]
        return sorted(one.document for one in found if one.op == "put")

    async def search(
        self,
        query: str,
        limit: int = 3,
        min_score: float = 0.0,
        min_seq: int = 0,
        *,
        highlight: bool = False,
    ) -> SearchReply:
        """Passages that answer a query, best first; with `highlight` by their best sentences.

        Raises:
            Transient: `no_responders` while retrieval is away, `index_behind`.
            Permanent: `invalid_message`.
        """
        if own := self._bus.login.tenant:
            asked = SearchDocuments(
                collection=self._collection,
                query=query,
                limit=limit,
                min_score=min_score,
                min_seq=min_seq,
                highlight=highlight,
            )
            return await ask(self._bus, ask_subject(own, "search"), asked, SearchReply)
        question = SearchRequest(
            tenant=self._tenant,
            collection=self._collection,
            query=query,
            limit=limit,
            min_score=min_score,
            min_seq=min_seq,
            highlight=highlight,
        )
        return await ask(self._bus, SEARCH, question, SearchReply)

    async def state(self) -> IndexState:
        """How far the index has come."""
        body = await self._bus.request(INDEX_STATE, orjson.dumps({}))
        return decode(body, IndexState)


def _claim_of(entry: Entry | None) -> Claim | None:
    if entry is None or claims.CLAIM not in entry.headers:
        return None
    return decode(entry.value, Claimed).claim


async def ask[A: Message](
    bus: Bus, subject: str, question: Message, kind: type[A], patience: float = 15.0
) -> A:
    """A typed request; an `error` in the reply is raised as the error it stands for."""
    reply = decode(await bus.request(subject, encode(question), patience), kind)
    if (failure := getattr(reply, "error", None)) is not None:
        raise error_of(failure)
    return reply
