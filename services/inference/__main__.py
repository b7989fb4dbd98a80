"""Composition root of an inference worker: `python -m services.inference`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine

from services.inference.adapters.bus import Direct, Presence, Tokens, lanes_of
from services.inference.adapters.conversations import LogConversations
from services.inference.adapters.engines import chat_model
from services.inference.adapters.loop_guard import LoopGuard
from services.inference.adapters.prefix_board import PrefixBoard
from services.inference.adapters.shelf import KvShelf
from services.inference.adapters.watch import Watch
from services.inference.handlers import Inference, Model
from services.inference.ports import ChatModel, EngineBroken
from services.inference.settings import Settings, variable
from shared import clock
from shared.bus.connect import Bus
from shared.bus.log import RunLog
from shared.bus.service import run_service, running
from shared.contracts.workers import WorkerState
from shared.errors import Permanent
from shared.models import AnyModel, read_models
from shared.otlp import live_spans


def main() -> None:
    """Run the worker until it is told to stop."""
    settings = Settings()

    async def compose(bus: Bus, stop: asyncio.Event) -> None:
        row = row_of(settings)
        bus.log.info("engine.loading", model=settings.model, engine=row.engine)
        reading = asyncio.to_thread(chat_model, row, settings.data / "cache", variable)
        chat = await _loaded(bus, stop, reading)
        try:
            await serve(bus, stop, settings, row, chat)
        finally:
            await _leave(bus, chat)

    async def guarded(bus: Bus, stop: asyncio.Event) -> None:
        with LoopGuard():
            await compose(bus, stop)

    run_service("inference", settings, guarded)


async def _loaded[T](bus: Bus, stop: asyncio.Event, loading: Coroutine[object, object, T]) -> T:
    """What comes of it; where the worker is told to stop meanwhile, the process ends here and now.

    Nothing is in hand yet. What loads cannot be called off: it runs in threads, down in libraries,
    and an orderly end of the interpreter would wait for it, or take away what it works with.
    """
    work, told = asyncio.ensure_future(loading), asyncio.ensure_future(stop.wait())
    await asyncio.wait((work, told), return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        bus.log.info("service.stopped", loading=True)
        await bus.close()
        os._exit(0)
    told.cancel()
    return await work


async def _leave(bus: Bus, chat: ChatModel) -> None:
    """End the process here and now where the engine is broken, after all it had in hand was let go.

    What is left of such an engine may wait for its dead at every orderly end: in threads, in hooks
    at the exit (ADR 0034).
    """
    broken = chat.health()
    if isinstance(broken, EngineBroken):
        bus.log.error("engine.left", code=broken.code, detail=broken.detail)
        await bus.close()
        os._exit(1)


async def serve(
    bus: Bus, stop: asyncio.Event, settings: Settings, row: AnyModel, chat: ChatModel
) -> None:
    """Answer with this model until told to stop.

    Raises:
        EngineBroken: it can serve nothing more; what it had in hand is back in the queues.
    """
    watch, live = Watch(chat, stop, bus.log), live_spans()
    try:
        info = await _loaded(bus, stop, chat.start())
        bus.log.info("engine.ready", model=settings.model, engine=row.engine)
        slots = min(row.concurrency, info.capacity)
        state = WorkerState(
            worker=settings.worker,
            model=settings.model,
            engine=row.engine,
            slots=slots,
            context=min(row.context, info.context_tokens),
            started=clock.now(),
            abilities=tuple(sorted(info.abilities)),
            dimensions=info.dimensions,
        )
        model = Model(settings.model, settings.worker, chat, info.fingerprint, slots, info.bounds)
        shelf, log = KvShelf(bus), LogConversations(RunLog(bus))
        inference = Inference(model, log, shelf, Tokens(bus), clock.now, clock.monotonic)
        lanes = lanes_of(bus, inference, state)
        presence = Presence(bus, inference, state, lanes)
        direct = Direct(bus, inference, settings.worker, spans=live.spans if live else None)
        board = PrefixBoard(bus, inference, state)
        async with running(bus, shelf, direct, *lanes, presence, board, watch):
            await stop.wait()
    finally:
        await chat.close()
        if live is not None:
            await live.close()
    if watch.why is not None:
        raise watch.why


def row_of(settings: Settings) -> AnyModel:
    """What the models file says of this worker's model.

    Raises:
        Permanent: `unknown_model`, `invalid_models_file`.
    """
    models = read_models(settings.models).models
    if settings.model not in models:
        raise Permanent(
            "unknown_model",
            f"{settings.models} has no model {settings.model!r}; it has {', '.join(models)}",
            field="MILLRACE_MODEL",
        )
    return models[settings.model]


if __name__ == "__main__":
    main()
