"""Embeddings: computed by retrieval, and a line of the bill and of the request log like others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from services.ingress.core.access.caller import Caller
from services.ingress.core.embeddings import EmbeddingsBody, Json, embeddings
from services.ingress.ports import Documents, Records
from shared.clock import mint_id, monotonic
from shared.contracts.facts import Completed, Timings, Usage
from shared.models import Prices, cost, micro_cents


@dataclass(frozen=True, slots=True)
class EmbeddingHandlers:
    """`POST /v1/embeddings`. A model that `prices` does not name costs nothing."""

    documents: Documents
    records: Records
    prices: Mapping[str, Prices] = field(default_factory=dict)
    ticks: Callable[[], float] = monotonic

    async def embed(self, caller: Caller, body: EmbeddingsBody) -> Json:
        """Vectors; the answer comes once it is written down that they were made.

        Raises:
            Permanent: `model_not_allowed`, `model_not_found`.
            Transient: retrieval or the log is away.
        """
        caller.check_model(body.model)
        began = self.ticks()
        reply = await self.documents.embed(body.texts())
        answer = embeddings(body, reply)
        price = self.prices.get(reply.model, Prices())
        fact = Completed(
            id=mint_id("emb"),
            kind="embedding",
            model=reply.model,
            worker="retrieval",
            usage=Usage(input=reply.tokens),
            price=cost((reply.tokens, micro_cents(price.input))),
            timings=Timings(total_ms=(self.ticks() - began) * 1000),
            metadata={"user": body.user} if body.user else {},
            route=body.model,
            key=caller.key,
        )
        await self.records.used(caller.tenant, fact, caller.trace_id)
        return answer
