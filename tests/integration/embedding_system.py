"""Embedding models behind a real ingress: the built-in one, and workers of endpoints.

All in this process, on a real server; each part is composed as in its `__main__`, but for
retrieval, of which there is its embedder and the handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
from msgspec.structs import replace
from nats.aio.msg import Msg

from services.inference.__main__ import serve
from services.inference.adapters.provider.chat import ProviderChat
from services.inference.adapters.provider.factory import build_provider
from services.inference.settings import Settings
from services.retrieval.adapters.minilm import MiniLmEmbedder
from services.retrieval.handlers import Handlers, Options
from shared.bus import topology
from shared.bus.connect import Bus, open_bus
from shared.bus.log import RunLog
from shared.bus.service import Runs
from shared.client import Millrace
from shared.contracts.base import SessionRef, decode, encode
from shared.contracts.facts import Completed
from shared.contracts.retrieval import EmbedReply, EmbedRequest
from shared.errors import MillraceError
from shared.models import ModelsFile, ProviderModel
from shared.subjects import DIRECT_SESSION, EMBED
from tests.e2e.clients.fronts import front
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import LOG, Loop, Part
from tests.integration.waiting import until

BUILT_IN, DIMENSIONS = "all-MiniLM-L6-v2", 384
KEY = "a-key" + "-of-its-own"


class BuiltIn:
    """Answers `retrieval.embed` with the real model."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._embedder: MiniLmEmbedder | None = None

    async def start(self) -> None:
        self._embedder = await asyncio.to_thread(MiniLmEmbedder)
        unused = (None, None)  # no index: nothing is searched here
        handlers = Handlers(self._embedder, *unused, Options())  # type: ignore[arg-type]

        async def answer(message: Msg) -> None:
            try:
                reply = await handlers.embed(decode(message.data, EmbedRequest))
            except MillraceError as error:
                reply = EmbedReply(error=error.as_failure())
            await self._bus.send(message.reply, encode(reply))

        await self._bus.nc.subscribe(EMBED, cb=answer)
        await self._bus.arrived()

    async def stop(self) -> None:
        assert self._embedder is not None
        self._embedder.close()


class Worker:
    """A worker of a row, as the composition root has it."""

    def __init__(self, bus: Bus, name: str, row: ProviderModel) -> None:
        self._bus, self._name, self._row = bus, name, row
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.chat: ProviderChat = build_provider(row, {"THE_KEY": KEY}.get)

    async def start(self) -> None:
        settings = Settings(model=self._name)
        self._task = asyncio.create_task(
            serve(self._bus, self._stop, settings, self._row, self.chat)
        )
        client = Millrace(self._bus)

        async def there() -> bool:
            return self._name in {state.model for state in await client.workers()}

        await until(there)

    async def stop(self) -> None:
        self._stop.set()
        assert self._task is not None
        await self._task


@dataclass
class Embeddings:
    """The ingress's address, and the parts behind it."""

    url: str
    loop: Loop
    bus: Bus
    server: NatsServer
    models: ModelsFile

    def client(self) -> openai.AsyncOpenAI:
        """OpenAI's own client, as it is."""
        http = httpx.AsyncClient(trust_env=False, timeout=30)
        return openai.AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key="none", max_retries=0, http_client=http
        )

    async def worker(self, name: str, **more: object) -> None:
        """Start the worker of a row; what is `more` replaces something of it there."""
        row = replace(self.models.models[name], **more)
        assert isinstance(row, ProviderModel)
        await self.part(name, lambda bus: Worker(bus, name, row))

    async def part(self, name: str, make: Callable[[Bus], Runs]) -> None:
        async def compose(bus: Bus) -> list[Runs]:
            return [make(bus)]

        start: Callable[[Bus], Awaitable[list[Runs]]] = compose
        self.loop.parts[name] = Part(self.server.address(), name, start)
        await self.loop.parts[name].start()

    async def billed(self) -> list[Completed]:
        """The usage facts so far."""
        facts = await RunLog(self.bus).read(SessionRef("default", DIRECT_SESSION))
        return [one.fact for one in facts if isinstance(one.fact, Completed)]


@asynccontextmanager
async def embedding_system(folder: Path, models: ModelsFile) -> AsyncIterator[Embeddings]:
    """The built-in model, a router and an ingress that know these models, and no worker yet."""
    server = NatsServer(folder)
    server.start()
    try:
        async with AsyncExitStack() as stack:
            bus = await stack.enter_async_context(open_bus(server.address(), "test", LOG))
            await topology.ensure(bus)
            (folder / "agents").mkdir()
            loop = Loop(server, folder / "agents", bus)
            loop.models = models
            stack.push_async_callback(loop.end)
            await loop.start("router")
            url = await stack.enter_async_context(front(server, models))
            running = Embeddings(url, loop, bus, server, models)
            await running.part("retrieval", BuiltIn)
            yield running
    finally:
        server.kill()
