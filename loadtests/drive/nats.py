"""What a client does over NATS, and what the log says of all tasks of the run.

All of it runs in the bridge's event loop; nothing here knows greenlets.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing, suppress

import nats.errors
from nats.aio.msg import Msg

from loadtests import answers
from loadtests.plan import Ends, Plan, Tenant
from loadtests.questions import Question
from loadtests.took import Stopwatch, Took
from shared.client import Millrace
from shared.clock import monotonic
from shared.contracts.base import decode
from shared.contracts.facts import Done
from shared.contracts.tokens import TokenDelta
from shared.errors import MillraceError, Permanent, Transient
from shared.subjects import ends_filter

_PATIENCE, _LATE, _PAUSE, _REACH = 90.0, 10.0, 0.1, 15.0
_SHOWN = 10


class Wire:
    """The connection to the broker, shared by all clients of this process."""

    def __init__(self, plan: Plan, late: float = _LATE, reach: float = _REACH) -> None:
        """Seconds: to wait for ends that are late, and for the broker."""
        self._plan = plan
        self._late, self._reach = late, reach
        self._stack = AsyncExitStack()
        self._millrace: dict[str, Millrace] = {}
        self._seen: Counter[str] = Counter()
        self._expected: dict[str, str] = {}
        self._steps: dict[str, int] = {}

    async def open(self) -> None:
        """Connect, and listen to the ends of all tasks of the run's tenants.

        Raises:
            Transient: `no_broker`.
        """
        first = self._plan.tenants[0].name
        try:
            async with asyncio.timeout(self._reach):
                found = await self._stack.enter_async_context(Millrace.connect(tenant=first))
        except (TimeoutError, OSError, nats.errors.Error) as error:
            text = f"the broker cannot be reached in {self._reach:g} s: see MILLRACE_NATS_URL"
            raise Transient("no_broker", text) from error
        for tenant in self._plan.tenants:
            self._millrace[tenant.name] = found.for_tenant(tenant.name)
            await found.bus.nc.subscribe(ends_filter(tenant.name), cb=self._ended)
        await found.bus.arrived()

    async def close(self) -> None:
        """Disconnect."""
        await self._stack.aclose()

    async def _ended(self, message: Msg) -> None:
        """Published is not stored: what the log holds is looked up in the end, where in doubt."""
        task = message.subject.rpartition(".")[2]
        self._seen[task] += 1
        if self._seen[task] > 1:
            return
        with suppress(MillraceError):  # one that is too large for a message; it was counted
            self._steps[task] = decode(message.data, Done).totals.steps

    @property
    def steps(self) -> int:
        """Of all tasks that have ended."""
        return sum(self._steps.values())

    def expect(self, tenant: str, task: str) -> None:
        """A task was made: it has to end once."""
        self._expected[task] = tenant

    async def ping(self) -> float:
        """Seconds of a round trip to the broker with nothing in it."""
        begun = monotonic()
        await next(iter(self._millrace.values())).bus.nc.flush()
        return monotonic() - begun

    async def task(self, tenant: Tenant, question: Question, session: str) -> Took:
        """Publish a task and follow it to its end.

        Raises:
            Permanent: what is wrong with it.
        """
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self._follow(tenant.name, question, session)
        except TimeoutError as error:
            raise Permanent("no_end", f"the task has not ended in {_PATIENCE:g} s") from error
        except nats.errors.Error as error:
            raise Permanent("connection", type(error).__name__) from error

    async def _follow(self, tenant: str, question: Question, session: str) -> Took:
        watch, stream = Stopwatch(monotonic()), answers.TaskStream()
        agent = self._plan.questions.agent_name
        task = await self._millrace[tenant].submit(agent, question.ask, session=session)
        self.expect(tenant, task.id)
        async with aclosing(task.events()) as events:
            async for event in events:
                if isinstance(event.data, TokenDelta):
                    stream.text += event.data.text
                    watch.piece(monotonic())
                elif isinstance(event.data, Done):
                    stream.end = _end_of(event.data)
        ended = monotonic()
        end = stream.close()
        answers.check_text(question, end.output)
        return watch.took(ended, end.totals.usage.output, end.totals.steps)

    async def ends(self) -> Ends:
        """Wait for those that are late; then look up in the log what did not end just once."""
        until = monotonic() + self._late
        while monotonic() < until and any(not self._seen[task] for task in self._expected):  # noqa: ASYNC110 - nobody tells of an end that does not come
            await asyncio.sleep(_PAUSE)
        doubtful = [task for task in self._expected if self._seen[task] != 1]
        faults = [await self._fault(task) for task in doubtful]
        return Ends(
            watched=True,
            tasks=len(self._expected),
            steps=self.steps,
            faults=_some([fault for fault in faults if fault]),
        )

    async def _fault(self, task: str) -> str:
        tenant = self._expected[task]
        stored = await self._millrace[tenant].log.read_filter(ends_filter(tenant, task))
        for end in stored[:1]:
            if isinstance(end.fact, Done):
                self._steps[task] = end.fact.totals.steps
        return "" if len(stored) == 1 else f"{task} has {len(stored)} ends in the log"


def _end_of(done: Done) -> answers.TaskEnd:
    totals = answers.Totals(done.totals.steps, answers.TaskUsage(done.totals.usage.output))
    return answers.TaskEnd(done.task, done.output, done.status, totals=totals)


def _some(faults: Sequence[str]) -> tuple[str, ...]:
    more = len(faults) - _SHOWN
    return (*faults[:_SHOWN], *([f"and {more} more"] if more > 0 else []))
