"""What retrieval counts."""

from __future__ import annotations

import pytest

from services.retrieval.adapters.metering import embedding, indexed, searching
from services.retrieval.core.rows import DocumentKey, StoredDocument
from shared.contracts.retrieval import EmbedReply, EmbedRequest, SearchReply, SearchRequest
from shared.errors import Permanent
from shared.metrics.catalogue import EMBEDDED, INDEXED, SEARCHES
from tests.fakes.counted import Moved

QUESTION = SearchRequest(tenant="t", collection="c", query="where")


async def test_searches_are_timed_by_their_outcome_and_errors_go_on() -> None:
    ok, failed = (Moved(SEARCHES, outcome, part="_count") for outcome in ("ok", "failed"))

    async def search(request: SearchRequest) -> SearchReply:
        if request.limit > 5:
            raise Permanent("invalid_limit", "too many", field="limit")
        return SearchReply(watermark=7)

    assert (await searching(search)(QUESTION)).watermark == 7
    with pytest.raises(Permanent):
        await searching(search)(SearchRequest(tenant="t", collection="c", query="x", limit=6))
    assert (ok.by, failed.by) == (1, 1)


async def test_texts_are_counted() -> None:
    texts = Moved(EMBEDDED)

    async def embed(_request: EmbedRequest) -> EmbedReply:
        return EmbedReply(tokens=4)

    assert (await embedding(embed)(EmbedRequest(texts=("a", "b")))).tokens == 4
    assert texts.by == 2


def test_documents_are_counted_as_stored_or_deleted() -> None:
    stored, deleted = Moved(INDEXED, "stored"), Moved(INDEXED, "deleted")
    key = DocumentKey("t", "c", "d")
    indexed(StoredDocument(key, 1, "text", deleted=False))
    indexed(StoredDocument(key, 2, "", deleted=True))
    assert (stored.by, deleted.by) == (1, 1)
