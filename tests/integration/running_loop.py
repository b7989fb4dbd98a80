"""The loop in one process on a real server: sessions, router, worker and tools, each with a
connection of its own, composed as in their `__main__`. A part can crash: its connection is cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from services.inference.adapters.bus import Direct, Presence, Tokens, lanes_of
from services.inference.adapters.conversations import LogConversations
from services.inference.adapters.shelf import KvShelf
from services.inference.handlers import Inference, Model
from services.router.adapters.bus import BusRescue, Completions, WorkerWatch, routing
from services.router.handlers import Router
from services.sessions.adapters.agents import KvAgents
from services.sessions.adapters.asks import Asks
from services.sessions.adapters.control import Control, timers
from services.sessions.adapters.deletion import Deletion
from services.sessions.adapters.effects import BusEffects
from services.sessions.adapters.owner import Owner
from services.sessions.adapters.replays import Replays
from services.sessions.adapters.snapshots import SessionLog
from services.sessions.adapters.undertaker import Undertaker
from services.sessions.adapters.unkept import Forgetting
from services.sessions.handlers import Bounds, Sessions
from services.tools.__main__ import execute
from services.tools.adapters.kv import BucketSpecs
from services.tools.adapters.promises import LogPromises
from services.tools.core.registry import Registry, ToolContext, as_tool
from services.tools.handlers import Handlers
from shared import clock
from shared.bus.connect import Bus, open_bus
from shared.bus.consume import Consuming
from shared.bus.desk import Desk
from shared.bus.log import RunLog
from shared.bus.service import Runs, ensure_patiently, running
from shared.client import Millrace
from shared.contracts.base import SessionRef, decode
from shared.contracts.work import RunTool
from shared.contracts.workers import WorkerState
from shared.models import ModelsFile, OpenVinoModel
from shared.otlp.sdk import Spans
from shared.settings import Address
from shared.telemetry import configure
from tests.fakes.instant_engine import InstantEngine
from tests.fakes.scripted_model import CONTEXT, scripted_model
from tests.integration.broker_process import NatsServer

LOG = configure("test", "critical")
MODELS = ModelsFile(
    models={"nano": OpenVinoModel(path="", context=CONTEXT, concurrency=8)},
    routes={"default": ("nano",)},
)
AGENTS = {
    "helper": "tools: [shout, hang, pay]\nretry: {base_s: 0.2}",
    "careful": "tools: [shout, pay]\napprove: [pay]\non_busy: reject",
    "thrifty": "tools: [shout]\nlimits: {max_steps: 3}\non_limit: pause",
    "fragile": "tools: [shout]\nretry: {tries: 2, tool_tries: 2, base_s: 0.1}",
    "strict": "limits: {max_steps: 3}\ntools: [shout]",
    "astray": "route: nowhere",
}
Compose = Callable[[Bus], Awaitable[list[Runs]]]
RunCall = Callable[[RunTool], Awaitable[str]]


class Part:
    """A service of the test: started, stopped in order, or crashed."""

    def __init__(self, address: Address, name: str, compose: Compose) -> None:
        self._address, self._name, self._compose = address, name, compose
        self._stack = AsyncExitStack()
        self.bus: Bus | None = None

    async def start(self) -> None:
        self.bus = await self._stack.enter_async_context(open_bus(self._address, self._name, LOG))
        await ensure_patiently(self.bus)
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
        self.model = lambda worker: scripted_model(
            "nano", worker, self.seconds_per_token, self.slots
        )
        self.bounds = Bounds()
        self.models = MODELS
        self.owners: dict[str, Owner] = {}
        self.seconds_per_token, self.slots = 0.0, 8
        self.engines: dict[str, InstantEngine] = {}
        self.spans: Spans | None = None
        for name, text in AGENTS.items():
            (folder / f"{name}.yaml").write_text(text)

    async def start(self, *names: str) -> None:
        """Start parts: sessions, router, tools (a digit names another instance), or a worker."""
        composers = {"sessions": self._sessions, "router": self._router, "tools": self._tools}
        for name in names:
            compose = composers.get(name.rstrip("0123456789"), self._worker(name))
            self.parts[name] = Part(self.address(name), name, compose)
            await self.parts[name].start()

    def address(self, _name: str) -> Address:
        """Where a part connects, and as whom."""
        return self._server.address()

    def engine(self, worker: str = "w1") -> InstantEngine:
        """The engine of a running worker."""
        return self.engines[worker]

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
        effects = BusEffects(bus, log)
        sessions = Sessions(SessionLog(bus), effects, agents, clock.now, bus.log, self.bounds)
        await Control(bus, sessions).start()
        await Replays(bus, log).start()
        self.owners[bus.name] = Owner(bus, sessions)
        deletion = Deletion(bus)
        fired = timers(bus, sessions, Forgetting(bus, deletion))
        desk = Desk(bus, Asks(bus, log).answers())
        return [self.owners[bus.name], fired, deletion, Undertaker(bus), desk]

    async def _router(self, bus: Bus) -> list[Runs]:
        router = Router(self.models, BusRescue(bus), clock.now, clock.monotonic, alive=2.5)
        return [
            WorkerWatch(bus, router),
            routing(bus, RunLog(bus), router),
            Completions(bus, router),
        ]

    async def _tools(self, bus: Bus) -> list[Runs]:
        registry = Registry(
            [
                as_tool(self.shout, timeout=60),
                as_tool(self.hang, timeout=60),
                as_tool(self.calculator, timeout=60),
                as_tool(self.pay, timeout=60, side_effects=True),
            ]
        )
        await BucketSpecs(bus).publish(registry.specs())
        handlers = Handlers(registry, LogPromises(RunLog(bus)), clock.monotonic)
        return [Consuming(bus, execute(handlers, RunLog(bus)), concurrency=16)]

    async def _called(self, context: ToolContext, name: str, n: int) -> str:
        work = RunTool(
            ref=SessionRef(context.tenant, context.session),
            task=context.task,
            step=context.step,
            call=context.call,
            name=name,
            arguments=f'{{"n": {n}}}',
        )
        self.calls.append(work)
        return await self.run_call(work)

    async def shout(self, context: ToolContext, n: int) -> str:
        """Shout a number."""
        return await self._called(context, "shout", n)

    async def hang(self, context: ToolContext, n: int) -> str:
        """Do what the test says."""
        return await self._called(context, "hang", n)

    async def calculator(self, context: ToolContext, expression: str) -> str:
        """Take an expression."""
        return await self._called(context, "calculator", len(expression))

    async def pay(self, context: ToolContext, n: int) -> str:
        """Have an effect."""
        return await self._called(context, "pay", n)

    def _worker(self, name: str) -> Compose:
        async def compose(bus: Bus) -> list[Runs]:
            model = self.model(name)
            self.engines[name] = model.chat.engine  # type: ignore[assignment]  # it is an instant one
            await model.chat.start()
            return worker_parts(bus, model, spans=self.spans)

        return compose


def worker_parts(
    bus: Bus,
    model: Model,
    ticks: Callable[[], float] = clock.monotonic,
    spans: Spans | None = None,
) -> list[Runs]:
    state = WorkerState(
        worker=model.worker, model=model.name, engine="instant", slots=model.slots, context=CONTEXT
    )
    shelf = KvShelf(bus)
    conversations = LogConversations(RunLog(bus))
    inference = Inference(model, conversations, shelf, Tokens(bus), clock.now, ticks)
    lanes = lanes_of(bus, inference, state)
    return [
        shelf,
        Direct(bus, inference, model.worker, spans=spans),
        *lanes,
        Presence(bus, inference, state, lanes),
    ]


@asynccontextmanager
async def running_loop(server: NatsServer, folder: Path, bus: Bus) -> AsyncIterator[Loop]:
    loop = Loop(server, folder, bus)
    try:
        yield loop
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(loop.end(), 20)
