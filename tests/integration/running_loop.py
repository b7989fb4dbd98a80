"""The loop in one process on a real server: sessions, router, worker and tools, each with a
connection of its own, composed as in their `__main__`. A part can crash: its connection is cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from services.inference.adapters.bus import Direct, Lane, Presence, Tokens
from services.inference.adapters.conversations import LogConversations
from services.inference.adapters.shelf import KvShelf
from services.inference.handlers import Inference, Model
from services.router.adapters.bus import BusRescue, Completions, WorkerWatch, routing
from services.router.handlers import Router
from services.sessions.adapters.agents import KvAgents
from services.sessions.adapters.control import Control, timers
from services.sessions.adapters.deletion import Deletion
from services.sessions.adapters.effects import BusEffects
from services.sessions.adapters.owner import Owner
from services.sessions.adapters.undertaker import Undertaker
from services.sessions.handlers import Sessions
from shared import clock
from shared.bus.connect import Bus, open_bus
from shared.bus.consume import Consuming, Delivery, Job
from shared.bus.kv import KeyValue
from shared.bus.log import RunLog
from shared.bus.service import Runs, running
from shared.client import Millrace
from shared.contracts.agents import ToolSpec
from shared.contracts.base import Message, decode, encode
from shared.contracts.facts import ToolDone
from shared.contracts.work import RunTool
from shared.contracts.workers import WorkerState
from shared.models import ModelRow, ModelsFile
from shared.subjects import TOOL_SPECS, TOOLS
from shared.telemetry import configure
from tests.fakes.scripted_model import CONTEXT, scripted_model
from tests.integration.broker_process import NatsServer

LOG = configure("test", "critical")
MODELS = ModelsFile(
    models={"nano": ModelRow(engine="openvino", path="", context=CONTEXT, concurrency=8)},
    routes={"default": ("nano",)},
)
AGENTS = {
    "helper": "tools: [shout, hang]",
    "strict": "limits: {max_steps: 3}\ntools: [shout]",
    "astray": "route: nowhere",
}
Compose = Callable[[Bus], Awaitable[list[Runs]]]
RunCall = Callable[[RunTool], Awaitable[str]]


class Part:
    """A service of the test: started, stopped in order, or crashed."""

    def __init__(self, server: NatsServer, name: str, compose: Compose) -> None:
        self._server, self._name, self._compose = server, name, compose
        self._stack = AsyncExitStack()
        self.bus: Bus | None = None

    async def start(self) -> None:
        self.bus = await self._stack.enter_async_context(
            open_bus(self._server.address(), self._name, LOG)
        )
        await self._stack.enter_async_context(running(self.bus, *await self._compose(self.bus)))

    async def stop(self) -> None:
        await self._stack.aclose()

    async def crash(self) -> None:
        """Nothing of it reaches the server any more; then its tasks are ended."""
        if self.bus is not None:
            await self.bus.nc.close()
        await self._stack.aclose()


async def shout(work: RunTool) -> str:
    return f"{work.name}{decode(work.arguments.encode(), dict)['n']}"


class Loop:
    """All parts and a client. `tools` may be replaced before the tools are started."""

    def __init__(self, server: NatsServer, folder: Path, bus: Bus) -> None:
        self._server, self._folder, self._bus = server, folder, bus
        self.client = Millrace(bus)
        self.parts: dict[str, Part] = {}
        self.calls: list[RunTool] = []
        self.run_call: RunCall = shout
        self.seconds_per_token = 0.0
        for name, text in AGENTS.items():
            (folder / f"{name}.yaml").write_text(text)

    async def start(self, *names: str) -> None:
        """Start parts: sessions, router, tools, or a worker by its name."""
        composers = {"sessions": self._sessions, "router": self._router, "tools": self._tools}
        for name in names:
            compose = composers.get(name, self._worker(name))
            self.parts[name] = Part(self._server, name, compose)
            await self.parts[name].start()

    async def all(self) -> None:
        await self.start("tools", "sessions", "router", "w1")

    async def stop(self, *names: str) -> None:
        for name in names:
            await self.parts.pop(name).stop()

    async def crash(self, *names: str) -> None:
        for name in names:
            await self.parts.pop(name).crash()

    async def end(self) -> None:
        await self.stop(*reversed(self.parts))

    async def _sessions(self, bus: Bus) -> list[Runs]:
        log, agents = RunLog(bus), KvAgents(bus)
        await agents.start(self._folder)
        sessions = Sessions(log, BusEffects(bus, log), agents, clock.now, bus.log)
        await Control(bus, sessions).start()
        return [Owner(bus, sessions), timers(bus, sessions), Deletion(bus), Undertaker(bus)]

    async def _router(self, bus: Bus) -> list[Runs]:
        router = Router(MODELS, BusRescue(bus), clock.now, clock.monotonic, alive=2.5)
        return [
            WorkerWatch(bus, router),
            routing(bus, RunLog(bus), router),
            Completions(bus, router),
        ]

    async def _tools(self, bus: Bus) -> list[Runs]:
        kv = KeyValue(bus, TOOL_SPECS)
        for name in ("shout", "hang"):
            await kv.put(name, encode(ToolSpec(name=name)))

        def read(delivery: Delivery) -> RunTool:
            return decode(delivery.body, RunTool)

        async def handle(work: RunTool) -> list[Message]:
            self.calls.append(work)
            result = await self.run_call(work)
            return [
                ToolDone(
                    task=work.task, step=work.step, call=work.call, name=work.name, result=result
                )
            ]

        async def emit(work: RunTool, results: Sequence[Message]) -> None:
            for fact in results:
                await RunLog(bus).append(work.ref, fact)

        return [Consuming(bus, Job(TOOLS, read, handle, emit), concurrency=16)]

    def _worker(self, name: str) -> Compose:
        async def compose(bus: Bus) -> list[Runs]:
            model = scripted_model("nano", name, self.seconds_per_token)
            await model.engine.start()
            return worker_parts(bus, model)

        return compose


def worker_parts(bus: Bus, model: Model, slots: int = 8) -> list[Runs]:
    state = WorkerState(
        worker=model.worker, model=model.name, engine="instant", slots=slots, context=CONTEXT
    )
    shelf, broken = KvShelf(bus), asyncio.Event()
    conversations = LogConversations(RunLog(bus))
    inference = Inference(model, conversations, shelf, Tokens(bus), clock.now, clock.monotonic)
    return [
        shelf,
        Direct(bus, inference, model.worker),
        Lane(bus, inference, state, model.worker, broken),
        Lane(bus, inference, state, "any", broken),
        Presence(bus, model.engine, state),
    ]


@asynccontextmanager
async def running_loop(server: NatsServer, folder: Path, bus: Bus) -> AsyncIterator[Loop]:
    loop = Loop(server, folder, bus)
    try:
        yield loop
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(loop.end(), 20)
