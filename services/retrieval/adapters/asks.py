"""What a tenant's own client may ask the index: passages of its tenant's documents."""

from __future__ import annotations

from typing import Any

from services.retrieval.adapters.metering import Search
from shared.bus.desk import Answer
from shared.contracts.asks import SearchDocuments
from shared.contracts.retrieval import SearchReply, SearchRequest


def answers(search: Search) -> dict[str, Answer[Any]]:
    """The one question, by the last token of its subject."""

    async def searched(tenant: str, asked: SearchDocuments) -> SearchReply:
        return await search(
            SearchRequest(
                tenant=tenant,
                collection=asked.collection,
                query=asked.query,
                limit=asked.limit,
                min_score=asked.min_score,
                min_seq=asked.min_seq,
                highlight=asked.highlight,
            )
        )

    return {"search": Answer(SearchDocuments, searched)}
