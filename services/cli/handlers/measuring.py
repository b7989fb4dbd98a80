"""Asks tasks in some way and takes the time: what `millrace bench` is made of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from services.cli.core.bench import Phase, Sample
from services.cli.ports import Client, Way
from shared.clock import monotonic
from shared.contracts.facts import Done, Inferred
from shared.contracts.log import StoredFact
from shared.contracts.tokens import TokenDelta
from shared.errors import Broken, MillraceError, Permanent, error_of
from shared.timeline import overheads, timeline

_FIRST = "the first"
_AT_ONCE = 8
"""Sessions that are read or deleted at a time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask of whom. `prefix` begins the names of the sessions; times in seconds."""

    prefix: str
    agent: str
    question: str
    seconds: float
    at_once: int
    patience: float


class OverBus:
    """Tasks over NATS."""

    name = "nats"

    def __init__(self, client: Client) -> None:
        self._client = client

    async def ask(self, agent: str, question: str, session: str, heard: Callable[[], None]) -> int:
        """See `Way.ask`."""
        task = await self._client.ask(agent, question, session, None)
        async with aclosing(task.events()) as events:
            async for event in events:
                if _says_something(event.data):
                    heard()
                if isinstance(event.data, Done):
                    return _tokens_of(event.data)
        raise Broken("log_ended", f"the events of {task.id} ended before the task")

    async def forget(self, session: str) -> None:
        """See `Way.forget`."""
        await self._client.session(session).delete(force=True, by="bench")


def _says_something(data: object) -> bool:
    """The fact of a step brings the text of deltas that were lost."""
    match data:
        case TokenDelta():
            return bool(data.text or data.reasoning)
        case Inferred():
            return bool(data.content or data.reasoning)
    return False


def _tokens_of(done: Done) -> int:
    if done.status == "completed":
        return done.totals.usage.output
    if done.error is not None:
        raise error_of(done.error)
    raise Permanent(done.status, f"the task was {done.status}")


@dataclass
class Measurement:
    """One run. Whatever becomes of it, `forget` deletes the sessions that it has made."""

    client: Client
    plan: Plan
    ways: Sequence[Way]
    _made: dict[str, Way] = field(default_factory=dict)

    @property
    def made(self) -> int:
        """How many sessions there are to delete."""
        return len(self._made)

    async def phases(self, say: Callable[[str], None]) -> AsyncIterator[Phase]:
        """One phase after the other, each told of before it begins."""
        plan = self.plan
        for way in self.ways:
            for name, lanes, seconds in (
                (_FIRST, 1, 0.0),
                ("one by one", 1, plan.seconds),
                (f"{plan.at_once} at once", plan.at_once, plan.seconds),
            ):
                say(f"{way.name}: {name}" + (f", {seconds:g} s" if name != _FIRST else ""))
                phase = await self._phase(way, name, lanes, seconds)
                yield phase
                if name == _FIRST and phase.errors:
                    break

    async def forget(self) -> dict[str, str]:
        """Delete every session; those that could not be, and why."""
        left: dict[str, str] = {}
        turn = asyncio.Semaphore(_AT_ONCE)

        async def one(session: str, way: Way) -> None:
            async with turn:
                try:
                    await way.forget(session)
                except MillraceError as error:
                    if error.code != "unknown_session":  # its question never arrived
                        left[session] = error.code

        await asyncio.gather(*(one(session, way) for session, way in self._made.items()))
        return dict(sorted(left.items()))

    async def _phase(self, way: Way, name: str, lanes: int, seconds: float) -> Phase:
        samples: list[Sample] = []
        errors: list[str] = []
        asked: list[str] = []
        began = monotonic()

        async def lane() -> None:
            """One task after the other, at least one, until something goes wrong."""
            while True:
                asked.append(session := self._session(way))
                try:
                    samples.append(await self._task(way, session))
                except MillraceError as error:
                    errors.append(error.code)
                    return
                if monotonic() - began >= seconds:
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(lanes):
                group.create_task(lane())
        took = monotonic() - began
        return Phase(
            over=way.name,
            at_once=lanes,
            seconds=took,
            samples=tuple(samples),
            errors=tuple(errors),
            overheads=await self._overheads(asked),
            name=name,
        )

    def _session(self, way: Way) -> str:
        name = f"{self.plan.prefix}-{len(self._made) + 1}"
        self._made[name] = way
        return name

    async def _task(self, way: Way, session: str) -> Sample:
        """One task.

        Raises:
            Permanent: `no_answer` in time.
            MillraceError: what became of it instead.
        """
        began = monotonic()
        first: list[float] = []

        def heard() -> None:
            if not first:
                first.append(monotonic() - began)

        plan = self.plan
        try:
            async with asyncio.timeout(plan.patience):
                tokens = await way.ask(plan.agent, plan.question, session, heard)
        except TimeoutError as error:
            raise Permanent("no_answer", f"no answer in {plan.patience:g} s") from error
        return Sample(monotonic() - began, first[0] if first else None, tokens)

    async def _overheads(self, sessions: Sequence[str]) -> tuple[float, ...]:
        """Of every step, from the log; a session of another tenant has none here."""
        turn = asyncio.Semaphore(_AT_ONCE)

        async def of(session: str) -> list[StoredFact]:
            async with turn:
                return await self.client.session(session).history()

        found: list[float] = []
        for facts in await asyncio.gather(*map(of, sessions)):
            for task in dict.fromkeys(stored.task for stored in facts if stored.task):
                line = timeline(facts, task)
                found += overheads(line) if line is not None else []
        return tuple(found)
