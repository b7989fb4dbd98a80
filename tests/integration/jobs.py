"""A job whose handler the test writes, on the real stream WORK; results are facts in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from shared import clock
from shared.bus.connect import Bus
from shared.bus.consume import Delivery, Job
from shared.bus.log import RunLog
from shared.client import Millrace
from shared.contracts.base import Message, SessionRef, decode, encode
from shared.contracts.dead import DeadLetter
from shared.contracts.facts import ToolDone, ToolFailed
from shared.contracts.log import StoredFact
from shared.contracts.work import RunTool
from shared.errors import Failure
from shared.subjects import WORK, Consumer

REF = SessionRef("default", "jobs")
TOOL = "probe"
ORDERS = "work.probe"
"""Nobody else reads it: a work queue has one reader for a subject."""


def row(**settings: float) -> Consumer:
    return Consumer("probe", WORK, (ORDERS,), memory=True, **settings)  # type: ignore[arg-type]  # numbers, as declared


def done(work: RunTool) -> ToolDone:
    return ToolDone(task=work.task, step=work.step, call="c", name=TOOL, result="ok")


@dataclass
class Probe:
    """Counts the tries of each step and the times at which they began."""

    bus: Bus
    handle: Callable[[RunTool, int], Awaitable[Sequence[Message]]]
    consumer: Consumer = field(default_factory=row)
    began: dict[int, list[float]] = field(default_factory=dict)
    emitted: Callable[[], Awaitable[None]] | None = None

    def job(self) -> Job[RunTool]:
        return Job(self.consumer, self._read, self._handle, self._emit, self._give_up)

    def tries(self, step: int = 0) -> int:
        return len(self.began.get(step, ()))

    @staticmethod
    def _read(delivery: Delivery) -> RunTool:
        return decode(delivery.body, RunTool)

    async def _handle(self, work: RunTool) -> Sequence[Message]:
        times = self.began.setdefault(work.step, [])
        times.append(clock.monotonic())
        return await self.handle(work, len(times))

    async def _emit(self, work: RunTool, results: Sequence[Message]) -> None:
        for fact in results:
            await RunLog(self.bus).append(work.ref, fact)
        if self.emitted is not None:
            await self.emitted()

    @staticmethod
    def _give_up(work: RunTool, failure: Failure) -> Sequence[Message]:
        return [ToolFailed(task=work.task, step=work.step, call="c", name=TOOL, error=failure)]


async def order(bus: Bus, *steps: int) -> None:
    for step in steps or (0,):
        work = RunTool(ref=REF, task="t1", step=step, call="c", name=TOOL, arguments="{}")
        await bus.publish(ORDERS, encode(work), {"Nats-Msg-Id": f"order-{step}"})


async def facts(bus: Bus) -> list[StoredFact]:
    return await RunLog(bus).read(REF)


async def letters(bus: Bus) -> list[DeadLetter]:
    """The dead letters that are stored now."""
    page = await Millrace(bus).dead(everyone=True).list(limit=500)
    return [filed.letter for filed in page.letters]


async def pending(bus: Bus) -> int:
    """Messages that WORK still holds: a settled one is removed."""
    return int((await bus.api("STREAM.INFO.WORK"))["state"]["messages"])


async def forever() -> None:
    await asyncio.Event().wait()
