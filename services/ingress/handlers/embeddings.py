"""Embeddings, by retrieval or by a worker: on the bill and in the request log like others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from services.ingress.core.access.caller import Caller
from services.ingress.core.embeddings import (
    MANY,
    EmbeddingsBody,
    Json,
    Vectors,
    built_in_texts,
    built_in_vectors,
    embedding_request,
    embeddings,
)
from services.ingress.ports import Catalog, Completions, Documents, Records
from shared.clock import mint_id, monotonic
from shared.contracts.facts import Completed, Timings, Usage
from shared.contracts.tokens import DirectResult
from shared.errors import Transient, error_of
from shared.models import Prices, cost, micro_cents


@dataclass(frozen=True, slots=True)
class EmbeddingHandlers:
    """`POST /v1/embeddings`.

    What the models file has goes through the router to a worker, which writes down what it costs;
    any other name is the built-in model's. One that `prices` does not name costs nothing.
    """

    documents: Documents
    records: Records
    completions: Completions
    catalog: Catalog
    prices: Mapping[str, Prices] = field(default_factory=dict)
    ticks: Callable[[], float] = monotonic

    async def embed(self, caller: Caller, body: EmbeddingsBody) -> Json:
        """Vectors; those of the built-in model come once it is written down that they were made.

        Raises:
            Permanent: `model_not_allowed`, `model_not_found`, `unsupported_demand`,
                `empty_input`, `too_many_inputs`, `context_too_long`.
            Transient: who computes them, or the log, is away.
        """
        caller.check_model(body.model)
        if self.catalog.has_model(body.model):
            found = await self._by_worker(caller, body)
        else:
            found = await self._built_in(caller, body)
        if len(found.each) < MANY:
            return embeddings(body, found)
        return await asyncio.to_thread(embeddings, body, found)

    def may_abort(self, body: EmbeddingsBody) -> bool:
        """What the built-in model has begun it ends, and it is billed here."""
        return self.catalog.has_model(body.model)

    async def _by_worker(self, caller: Caller, body: EmbeddingsBody) -> Vectors:
        request = caller.signed(embedding_request(body, caller.tenant, mint_id("emb")))
        vectors: list[str] = []
        done: DirectResult | None = None
        async with aclosing(self.completions.complete(request)) as events:
            async for event in events:
                if event.error is not None:
                    raise error_of(event.error)
                vectors += event.vectors
                done = event.done or done
        asked = request.embedding
        if done is None or asked is None or len(vectors) != len(asked.each):
            raise Transient("request_timeout", "the answer ended before it was complete")
        return Vectors(done.model, vectors, done.usage.input)

    async def _built_in(self, caller: Caller, body: EmbeddingsBody) -> Vectors:
        began = self.ticks()
        reply = await self.documents.embed(built_in_texts(body))
        found = built_in_vectors(body, reply)
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
        return found
