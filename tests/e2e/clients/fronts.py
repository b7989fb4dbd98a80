"""A loop on a real server with a model that does what it is told, behind two ingress replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import uvicorn

from infra.local.broker import free_port
from services.inference.handlers import Model
from services.ingress.__main__ import compose
from services.ingress.adapters.admission import Gate
from services.ingress.adapters.bus import Link
from services.ingress.adapters.http.app import build
from services.ingress.adapters.http.middleware import Bodies
from services.ingress.adapters.http.server import HttpProtocol, Server, SocketProtocol
from services.ingress.adapters.http.streams import Streams
from services.ingress.adapters.records import BusRecords
from shared.bus import topology
from shared.bus.connect import open_bus
from shared.models import ModelsFile
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import LOG, Loop, running_loop
from tests.integration.waiting import until

HOST = "127.0.0.1"
MODELS = ModelsFile(models={}, routes={"default": ()})


@dataclass(frozen=True)
class Fronts:
    """The addresses of the replicas, and the loop behind them."""

    urls: tuple[str, ...]
    loop: Loop

    def client(self, replica: int = 0) -> openai.AsyncOpenAI:
        """OpenAI's client of one replica."""
        return openai.AsyncOpenAI(
            base_url=f"{self.urls[replica]}/v1",
            api_key="unused",
            max_retries=0,
            http_client=httpx.AsyncClient(trust_env=False, timeout=30),
        )

    def http(self, replica: int = 0) -> httpx.AsyncClient:
        """A plain client of one replica."""
        return httpx.AsyncClient(base_url=self.urls[replica], trust_env=False, timeout=30)


@asynccontextmanager
async def front(server: NatsServer, models: ModelsFile = MODELS) -> AsyncIterator[str]:
    """One ingress in this process, on a free port."""
    link, port = Link(LOG), free_port()
    streams = Streams()
    app = build(
        compose(link, Gate(link, 0, LOG), models, BusRecords(link, LOG)),
        host=HOST,
        bodies=Bodies(limit=1 << 20),
        streams=streams,
    )
    config = uvicorn.Config(
        app,
        host=HOST,
        port=port,
        http=HttpProtocol,
        ws=SocketProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
    )
    serving = Server(config, streams)
    async with link.open(server.address):
        job = asyncio.create_task(serving.serve())
        try:
            url = f"http://{HOST}:{port}"
            await _answering(url, serving)
            yield url
        finally:
            serving.should_exit = True
            await job


async def _answering(url: str, serving: uvicorn.Server) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:

        async def answers() -> bool:
            return serving.started and (await http.get(f"{url}/v1/models")).status_code == 200

        await until(answers)


@asynccontextmanager
async def running_fronts(
    folder: Path, model: Callable[[str], Model] | None = None
) -> AsyncIterator[Fronts]:
    """Everything; two replicas, so that nothing can be kept in the memory of one.

    `model` makes another one than the scripted model, for a worker of that name.
    """
    server = NatsServer(folder)
    server.start()
    try:
        async with AsyncExitStack() as stack:
            bus = await stack.enter_async_context(open_bus(server.address(), "test", LOG))
            await topology.ensure(bus)
            agents = folder / "agents"
            agents.mkdir()
            loop = await stack.enter_async_context(running_loop(server, agents, bus))
            loop.seconds_per_token = 0.002
            loop.model = model or loop.model
            await loop.all()
            urls = [await stack.enter_async_context(front(server)) for _ in range(2)]
            yield Fronts(tuple(urls), loop)
    finally:
        server.kill()
