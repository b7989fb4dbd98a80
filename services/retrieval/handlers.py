"""One short function per message of retrieval: index a document, search, embed, say how far."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from services.retrieval.core.chunking import Chunk, chunk_document
from services.retrieval.core.highlights import Marked, Question, read, unread
from services.retrieval.core.ids import chunk_id
from services.retrieval.core.rows import (
    Applied,
    DocumentKey,
    Hit,
    Row,
    StoredDocument,
    check_vector,
)
from services.retrieval.ports import Embedder, Progress, Query, VectorStore
from shared.contracts.base import Message, check_token
from shared.contracts.retrieval import (
    EmbedReply,
    EmbedRequest,
    IndexState,
    Passage,
    SearchReply,
    SearchRequest,
)
from shared.errors import Permanent, Transient

MAX_RESULTS, MAX_TEXTS, MAX_TEXT = 100, 128, 100_000
_DECIMALS = 8  # of a float32 in a reply; more would be noise that doubles its size
_POLL = 0.03


@dataclass(frozen=True, slots=True)
class Options:
    """`patience` bounds the wait for `min_seq`, in seconds."""

    chunk_tokens: int = 60
    patience: float = 5.0


class Handlers:
    """Everything retrieval does, in terms of its ports."""

    def __init__(
        self, embedder: Embedder, store: VectorStore, progress: Progress, options: Options
    ) -> None:
        self._embedder, self._store, self._progress = embedder, store, progress
        self._options = options
        self._applied = Applied()
        self._order: dict[DocumentKey, asyncio.Lock] = {}

    async def index(self, document: StoredDocument) -> Sequence[Message]:
        """Bring one version of a document into the index; older versions change nothing."""
        lock = self._order.setdefault(document.key, asyncio.Lock())
        try:
            async with lock:  # versions of one document in the order of their arrival
                if not self._applied.outdated(document.key, document.sequence):
                    await self._apply(document)
                    self._applied.record(document.key, document.sequence)
        finally:
            # A lock that others wait for has been handed on by now, so it is still locked.
            if not lock.locked() and self._order.get(document.key) is lock:
                del self._order[document.key]
        return []

    async def _apply(self, document: StoredDocument) -> None:
        if document.deleted:
            await self._store.delete(document.key, document.sequence)
            return
        chunks = await asyncio.to_thread(
            chunk_document, document.text, self._embedder.count_tokens, self._options.chunk_tokens
        )
        embedded = await self._embedder.embed([chunk.embedding_text() for chunk in chunks])
        rows = [
            self._row(document.key, chunk, vector)
            for chunk, vector in zip(chunks, embedded.vectors, strict=True)
        ]
        await self._store.replace(document.key, document.sequence, rows)

    def _row(self, key: DocumentKey, chunk: Chunk, vector: Sequence[float]) -> Row:
        return Row(
            id=chunk_id(key.tenant, key.collection, key.document, chunk.ordinal),
            text=chunk.text,
            start=chunk.start,
            end=chunk.end,
            vector=check_vector(vector, self._embedder.dimension),
        )

    async def search(self, request: SearchRequest) -> SearchReply:
        """The passages nearest to a question, once the index has come as far as asked."""
        _check_search(request)
        watermark = await self._wait_for(request.min_seq)
        embedded = await self._embedder.embed([request.query])
        hits = await self._store.search(
            Query(
                tenant=request.tenant,
                collection=request.collection,
                vector=check_vector(embedded.vectors[0], self._embedder.dimension),
                limit=request.limit,
                min_score=request.min_score,
                fresh=request.min_seq > 0,
            )
        )
        marked = unread(hits)
        if request.highlight and hits:
            marked = await self._highlighted(Question(request.query, embedded.vectors[0]), hits)
        return SearchReply(results=tuple(map(_passage, marked)), watermark=watermark)

    async def _highlighted(self, question: Question, hits: Sequence[Hit]) -> list[Marked]:
        """The hits with their best sentences, the best of all first."""
        readings = read(question.text, hits)
        embedded = await self._embedder.embed([text for one in readings for text in one.texts])
        return question.ranked(hits, readings, embedded.vectors)

    async def _wait_for(self, sequence: int) -> int:
        """The watermark, as soon as it has reached `sequence`."""
        watermark = await self._progress.watermark()
        try:
            async with asyncio.timeout(self._options.patience):
                while watermark < sequence:
                    await asyncio.sleep(_POLL)
                    watermark = await self._progress.watermark()
        except TimeoutError as error:
            raise Transient(
                "index_behind",
                f"the index is not ready: at document {watermark}, asked for {sequence}",
                retry_after=1.0,
            ) from error
        return watermark

    async def embed(self, request: EmbedRequest) -> EmbedReply:
        """Texts to unit vectors."""
        if len(request.texts) > MAX_TEXTS:
            raise Permanent("too_many_texts", f"at most {MAX_TEXTS} in one request", field="texts")
        if any(len(text) > MAX_TEXT for text in request.texts):
            raise Permanent("text_too_long", f"at most {MAX_TEXT} characters each", field="texts")
        embedded = await self._embedder.embed(request.texts)
        vectors = tuple(tuple(round(x, _DECIMALS) for x in v) for v in embedded.vectors)
        return EmbedReply(vectors=vectors, model=self._embedder.model, tokens=embedded.tokens)

    async def rebuild(self, request: Message) -> IndexState:
        """Empty the index and begin with the first document again; the answer comes before that
        has got far. Searches find what has come so far."""
        await self._store.clear()
        documents = await self._progress.rewind()
        return replace(await self.state(request), remaining=documents)

    async def state(self, _request: Message) -> IndexState:
        """How far the index has come."""
        standing = await self._progress.standing()
        return IndexState(
            watermark=standing.watermark,
            newest=standing.newest,
            remaining=standing.remaining,
            chunks=await self._store.count(),
            model=self._embedder.model,
            engine=self._store.engine,
        )


def _check_search(request: SearchRequest) -> None:
    check_token(request.tenant, "tenant")
    check_token(request.collection, "collection")
    if not request.query.strip() or len(request.query) > MAX_TEXT:
        raise Permanent("invalid_query", f"a query has 1 to {MAX_TEXT} characters", field="query")
    if not 1 <= request.limit <= MAX_RESULTS:
        raise Permanent("invalid_limit", f"limit is 1 to {MAX_RESULTS}", field="limit")


def _passage(marked: Marked) -> Passage:
    hit = marked.hit
    return Passage(
        document=hit.document,
        text=hit.text,
        score=round(hit.score, 6),
        start=hit.start,
        end=hit.end,
        sequence=hit.sequence,
        highlight=marked.highlight,
        runner_up=marked.runner_up,
    )
