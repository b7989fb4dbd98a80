"""Composition root of retrieval: `python -m services.retrieval [--print-settings]`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from faststream.nats import NatsBroker

from services.retrieval.adapters.asks import answers
from services.retrieval.adapters.metering import embedding, indexed, searching
from services.retrieval.adapters.milvus import MilvusStore
from services.retrieval.adapters.milvus_client import MilvusBorder
from services.retrieval.adapters.minilm import TAG, MiniLmEmbedder
from services.retrieval.adapters.progress import ConsumerProgress
from services.retrieval.adapters.turn import turn
from services.retrieval.core.ids import index_tag
from services.retrieval.core.rows import StoredDocument, read_document
from services.retrieval.handlers import Handlers, Options
from services.retrieval.settings import RetrievalSettings
from shared.bus.connect import Bus
from shared.bus.consume import Delivery, Job
from shared.bus.desk import Desk, Turns
from shared.bus.edge import answer, make_broker, subscribe
from shared.bus.service import run_service, running
from shared.contracts.base import Message
from shared.contracts.retrieval import (
    EmbedReply,
    EmbedRequest,
    IndexState,
    SearchReply,
    SearchRequest,
)
from shared.errors import Failure
from shared.subjects import EMBED, INDEX_REBUILD, INDEX_STATE, INDEXER, SEARCH
from shared.telemetry import Log

CONCURRENCY = 4
"""Documents under way: enough to overlap embedding and writing, both of which are serial."""


async def serve(settings: RetrievalSettings, bus: Bus, stop: asyncio.Event) -> None:
    """Work on the index, once no other process does."""
    if not border(settings).lite:
        await work(settings, bus, stop)
        return
    async with turn(bus, Path(settings.index_uri), stop) as ours:
        if ours:
            await work(settings, bus, stop)


async def work(settings: RetrievalSettings, bus: Bus, stop: asyncio.Event) -> None:
    """Open the model and the index, then index documents and answer until told to stop."""
    tag = index_tag(TAG, settings.chunk_tokens)
    store = MilvusStore(border(settings), tag, MiniLmEmbedder.dimension, bus.log)
    progress = ConsumerProgress(bus)
    loading = asyncio.create_task(asyncio.to_thread(MiniLmEmbedder))
    try:
        empty = await store.open()
        embedder = await loading
        if empty:
            await progress.rewind()
        bus.log.info("retrieval.index_open", engine=store.engine, tag=tag, rebuild=empty)
        handlers = Handlers(embedder, store, progress, Options(settings.chunk_tokens))
        desk = Desk(bus, answers(searching(handlers.search)), Turns(at_once=32, each=4))
        async with running(bus, application(settings, bus, handlers), desk):
            bus.log.info("retrieval.ready")
            await stop.wait()
        embedder.close()
    finally:
        await store.close()


def application(settings: RetrievalSettings, bus: Bus, handlers: Handlers) -> NatsBroker:
    """The FastStream application: one durable consumer, three questions and an order."""
    broker = make_broker(settings.address(), "retrieval", bus.denials)
    subscribe(broker, bus, Job(INDEXER, read, handlers.index, emit), CONCURRENCY)
    answer(broker, bus, SEARCH, SearchRequest, searching(handlers.search), no_search)
    answer(broker, bus, EMBED, EmbedRequest, embedding(handlers.embed), no_embed)
    answer(broker, bus, INDEX_STATE, Message, handlers.state, no_state)
    answer(broker, bus, INDEX_REBUILD, Message, rebuilding(handlers, bus.log), no_state)
    return broker


def rebuilding(handlers: Handlers, log: Log) -> Callable[[Message], Awaitable[IndexState]]:
    """An order that the log keeps: who has the whole index read again may want to know when."""

    async def rebuild(order: Message) -> IndexState:
        state = await handlers.rebuild(order)
        log.info("retrieval.rebuild", documents=state.remaining)
        return state

    return rebuild


def border(settings: RetrievalSettings) -> MilvusBorder:
    """The way to the vector database."""
    token = settings.milvus_token.get_secret_value() if settings.milvus_token else ""
    return MilvusBorder(settings.index_uri, token)


def read(delivery: Delivery) -> StoredDocument:
    """A delivery of DOCS as a version of a document."""
    return read_document(delivery.subject, delivery.sequence, delivery.body)


async def emit(document: StoredDocument, _results: object) -> None:
    """Indexing publishes nothing: its progress is the consumer's own."""
    indexed(document)


def no_search(failure: Failure) -> SearchReply:
    """The refusal of a search."""
    return SearchReply(error=failure)


def no_embed(failure: Failure) -> EmbedReply:
    """The refusal to embed."""
    return EmbedReply(error=failure)


def no_state(failure: Failure) -> IndexState:
    """The index cannot be asked."""
    return IndexState(error=failure)


def main() -> None:
    """Run the service."""
    settings = RetrievalSettings()
    run_service("retrieval", settings, partial(serve, settings))


if __name__ == "__main__":
    main()
