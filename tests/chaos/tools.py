"""The tools under test, `python -m tests.chaos.tools`: the product's executor with other tools.

A result says who asked for it, so that an answer that went to somebody else is found out.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from services.tools.__main__ import CONCURRENCY, execute
from services.tools.adapters.kv import BucketSpecs
from services.tools.adapters.promises import LogPromises
from services.tools.core.registry import Registry, Tool, ToolContext, as_tool
from services.tools.handlers import Assignment, Handlers
from services.tools.settings import ToolsSettings
from shared import clock
from shared.bus.connect import Bus
from shared.bus.consume import Delivery, Job
from shared.bus.edge import make_broker, subscribe
from shared.bus.log import RunLog
from shared.bus.service import run_service, running
from shared.errors import Permanent, Transient
from tests.chaos.answers import result_of
from tests.chaos.records import EFFECTS, EXECUTIONS, Effect, Execution, real_now, write_line
from tests.chaos.settings import chaos_name, chaos_seed

_FLAKY = 0.3


class Tools:
    """The functions. `asked` holds the moment at which each step was delivered last."""

    def __init__(self, data: Path, seed: int, name: str) -> None:
        self._data, self._name = data, name
        self._random = random.Random(f"{seed}/{name}/{os.getpid()}")
        self.asked: dict[tuple[str, str, str, int], float] = {}

    def tools(self) -> list[Tool]:
        """All of them."""
        plain = [as_tool(one) for one in (self.echo, self.slow, self.flaky, self.refuse)]
        return [*plain, as_tool(self.effect, side_effects=True)]

    async def echo(self, context: ToolContext, mark: str, n: int) -> str:
        """Answer at once."""
        self._record(context)
        return result_of("echo", context.tenant, context.session, mark, n)

    async def slow(self, context: ToolContext, mark: str, n: int) -> str:
        """Answer after a while."""
        self._record(context)
        await asyncio.sleep(0.4)
        return result_of("slow", context.tenant, context.session, mark, n)

    async def flaky(self, context: ToolContext, mark: str, n: int) -> str:
        """Fail now and then, for the moment only."""
        self._record(context)
        if self._random.random() < _FLAKY:
            raise Transient("flaky", "told to fail", retry_after=0.2)
        return result_of("flaky", context.tenant, context.session, mark, n)

    async def refuse(self, context: ToolContext, mark: str, n: int) -> str:
        """Refuse, whoever asks."""
        self._record(context)
        raise Permanent("refused", result_of("refuse", context.tenant, context.session, mark, n))

    async def effect(self, context: ToolContext, mark: str, n: int) -> str:
        """Do something that cannot be undone: one line in the file ledger."""
        self._record(context)
        await asyncio.sleep(0.05)
        line = Effect(context.tenant, context.session, context.task, context.step)
        write_line(self._data / EFFECTS, line)
        await asyncio.sleep(0.05)
        return result_of("effect", context.tenant, context.session, mark, n)

    def _record(self, context: ToolContext) -> None:
        key = (context.tenant, context.session, context.task, context.step)
        now = real_now()
        execution = Execution("tool", *key, self._name, self.asked.get(key, now), now)
        write_line(self._data / EXECUTIONS, execution)

    def watched(self, job: Job[Assignment]) -> Job[Assignment]:
        """The job, noting when each step is delivered."""
        read: Callable[[Delivery], Assignment] = job.read

        def noting(delivery: Delivery) -> Assignment:
            found = read(delivery)
            work = found.work
            self.asked[work.ref.tenant, work.ref.session, work.task, work.step] = real_now()
            return found

        return replace(job, read=noting)


async def serve(settings: ToolsSettings, bus: Bus, stop: asyncio.Event) -> None:
    """As the product's service does, with the tools of the suite."""
    ours = Tools(settings.data, chaos_seed(), chaos_name())
    registry = Registry(ours.tools())
    await BucketSpecs(bus).publish(registry.specs())
    handlers = Handlers(registry, LogPromises(RunLog(bus)), clock.monotonic)
    broker = make_broker(settings.address(), "tools")
    subscribe(broker, bus, ours.watched(execute(handlers, RunLog(bus))), CONCURRENCY)
    async with running(bus, broker):
        await stop.wait()


if __name__ == "__main__":
    chosen = ToolsSettings()
    run_service("tools", chosen, partial(serve, chosen))
