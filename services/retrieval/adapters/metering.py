"""Counts what retrieval does: searches, texts that were embedded, documents that came in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from services.retrieval.core.rows import StoredDocument
from shared.clock import monotonic
from shared.contracts.retrieval import EmbedReply, EmbedRequest, SearchReply, SearchRequest
from shared.metrics.catalogue import EMBEDDED, INDEXED, SEARCHES

Search = Callable[[SearchRequest], Awaitable[SearchReply]]
Embed = Callable[[EmbedRequest], Awaitable[EmbedReply]]


def searching(search: Search) -> Search:
    """The same, timed."""

    async def timed(request: SearchRequest) -> SearchReply:
        begun, outcome = monotonic(), "failed"
        try:
            reply = await search(request)
            outcome = "ok"
        finally:
            SEARCHES.observe(monotonic() - begun, outcome)
        return reply

    return timed


def embedding(embed: Embed) -> Embed:
    """The same, counted."""

    async def counted(request: EmbedRequest) -> EmbedReply:
        reply = await embed(request)
        EMBEDDED.add(by=len(request.texts))
        return reply

    return counted


def indexed(document: StoredDocument) -> None:
    """A version of a document is in the index."""
    INDEXED.add("deleted" if document.deleted else "stored")
