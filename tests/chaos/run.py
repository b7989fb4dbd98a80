"""Runs a scenario on a running system and collects the evidence."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable
from dataclasses import dataclass, field

import httpx

from shared.bus.connect import Bus
from shared.bus.log import Page, RunLog
from shared.client import Millrace
from shared.clock import monotonic
from shared.contracts.base import SessionRef, decode
from shared.contracts.dead import DeadLetter
from shared.contracts.facts import Done, Usage
from shared.contracts.log import StoredFact
from shared.errors import MillraceError, Transient
from shared.replay import check_session
from shared.subjects import DEAD
from tests.chaos.evidence import Account, Bill, Evidence, Fault, Submission
from tests.chaos.faults import Field
from tests.chaos.invariants import GROUPINGS, bills
from tests.chaos.load import TENANTS, Plan, Shape, Submitter, plans
from tests.chaos.person import Person
from tests.chaos.readers import Reader, feed_source, sse_source
from tests.chaos.records import EFFECTS, EXECUTIONS, Effect, Execution, read_lines, real_now
from tests.chaos.scenarios import Scenario
from tests.chaos.system import System

_SUBMIT_WITHIN, _READ_WITHIN, _LEDGER_WITHIN = 60.0, 45.0, 45.0


@dataclass
class Tail:
    """The whole log, read on and on; `person` hears of every fact."""

    bus: Bus
    person: Person
    facts: list[StoredFact] = field(default_factory=list)
    ended: set[tuple[SessionRef, str]] = field(default_factory=set)
    after: int = 0

    async def follow(self) -> None:
        """For ever."""
        while True:
            with contextlib.suppress(Transient):
                while await self.read():
                    pass
            await asyncio.sleep(0.25)

    async def read(self) -> bool:
        """The next page; whether there was anything."""
        found, upto = await RunLog(self.bus).read_page("run.>", self.after)
        moved, self.after = upto > self.after, upto
        for stored in found:
            self.facts.append(stored)
            self.person.on_fact(stored)
            if isinstance(stored.fact, Done):
                self.ended.add((stored.ref, stored.task))
        return moved


class Driver:
    """Everything that is done with the system from outside, on one connection."""

    def __init__(self, system: System, bus: Bus, http: httpx.AsyncClient) -> None:
        self.system, self.bus = system, bus
        self._http = http
        self._client = Millrace(bus)
        self.person = Person(bus, system)
        self.tail = Tail(bus, self.person)

    async def run(self, scenario: Scenario, tasks: int, seed: int) -> Evidence:
        """Load and faults together; then wait for the end, within bounds."""
        shape = Shape(tasks, scenario.spread, scenario.words, scenario.stalling)
        work = plans(scenario.name, shape, seed)
        submitter = Submitter(self._client, self._http, self.system.urls)
        readers: list[Reader] = []
        field_ = Field(self.system, self.bus, random.Random(f"{seed}/{scenario.name}/faults"))
        first = len(self.system.faults)
        async with _ending(self.tail.follow()):
            one_by_one = [self._one(plan, submitter, readers, seed) for plan in work]
            jobs = [asyncio.create_task(one) for one in one_by_one]
            await scenario.faults(field_)
            last = real_now()
            submissions = [plan.submission for plan in work]
            await asyncio.wait(jobs, timeout=_SUBMIT_WITHIN + 10)
            await self._all_ended(submissions, scenario.within - (real_now() - last))
            await asyncio.wait(jobs, timeout=_READ_WITHIN)
            await _cancel(jobs)
        found = await self._collect(submissions, self.system.faults[first:])
        found.readings = [reader.reading for reader in readers]
        found.forged = frozenset(field_.forged)
        found.reruns = Counter(self.person.reruns)
        return found

    async def _one(
        self, plan: Plan, submitter: Submitter, readers: list[Reader], seed: int
    ) -> None:
        """A task from its submission to the end of its reader."""
        await asyncio.sleep(plan.at)
        await submitter.submit(plan, _SUBMIT_WITHIN)
        jobs: list[Coroutine[None, None, None]] = []
        if plan.read_by and plan.submission.acknowledged:
            one = plan.submission
            if plan.read_by == "sse":
                source = sse_source(self._http, submitter.url, one)
            else:
                source = feed_source(self._client, one)
            readers.append(Reader(plan, source, f"{seed}/{one.ref}/{one.task}"))
            jobs.append(readers[-1].read())
        if plan.cancel_after is not None:
            jobs.append(self._cancel_later(plan, submitter))
        await asyncio.gather(*jobs)

    async def _cancel_later(self, plan: Plan, submitter: Submitter) -> None:
        await asyncio.sleep(plan.cancel_after or 0)
        await submitter.cancel(plan)

    async def _all_ended(self, submissions: Iterable[Submission], within: float) -> None:
        wanted = {(one.ref, one.task) for one in submissions if one.acknowledged}
        end = monotonic() + within
        while not wanted <= self.tail.ended and monotonic() < end:
            await asyncio.sleep(0.2)

    # -- evidence ---------------------------------------------------------------------------------

    async def _collect(self, submissions: list[Submission], faults: list[Fault]) -> Evidence:
        """What was left behind by the sessions of this scenario."""
        refs = {one.ref for one in submissions}
        await self._read_on()
        facts = [stored for stored in self.tail.facts if stored.ref in refs]
        found = Evidence(submissions, facts, faults)
        data = self.system.data
        runs = read_lines(data / EXECUTIONS, Execution)
        found.executions = [one for one in runs if one.place.ref in refs]
        found.effects = [e for e in read_lines(data / EFFECTS, Effect) if e.place.ref in refs]
        found.billed = bills(self.tail.facts)
        found.ledger = await self._ledger(found.billed)
        found.letters = await self._letters()
        found.replayed = [text for ref in sorted(refs) if (text := await self._replayed(ref))]
        return found

    async def _replayed(self, ref: SessionRef) -> str:
        """What `millrace replay --check` finds in a session; nothing where all is well."""
        if not any(stored.ref == ref for stored in self.tail.facts):
            return ""
        end = monotonic() + _LEDGER_WITHIN
        while True:
            try:
                found = await check_session(self.bus, ref)
            except MillraceError as error:
                if monotonic() > end:
                    return f"replay of {ref}: {error}"
                await asyncio.sleep(0.5)
                continue
            return f"replay of {ref}: {found.difference}" if found.difference else ""

    async def _read_on(self) -> None:
        """To the end of the log."""
        async with asyncio.timeout(_READ_WITHIN):
            while True:
                with contextlib.suppress(Transient):
                    if not await self.tail.read():
                        return
                    continue
                await asyncio.sleep(0.3)

    async def _ledger(self, wanted: dict[Account, Bill]) -> dict[Account, Bill]:
        """What the ledger says, once it has caught up with the log or had its time."""
        found: dict[Account, Bill] = {}
        end = monotonic() + _LEDGER_WITHIN
        while monotonic() < end:
            with contextlib.suppress(httpx.HTTPError):
                found = {}
                for tenant in TENANTS:
                    for grouping in GROUPINGS:
                        found |= await self._usage(tenant, grouping)
                if found == wanted:
                    return found
            await asyncio.sleep(0.5)
        return found

    async def _usage(self, tenant: str, grouping: str) -> dict[Account, Bill]:
        """All pages of `/v1/usage`."""
        found: dict[Account, Bill] = {}
        query = {"by": grouping, "limit": 500, "min_seq": self.tail.after}
        while True:
            answer = await self._http.get(
                f"{self.system.urls[0]}/v1/usage",
                params={**query, "offset": len(found)},
                headers={"X-Millrace-Tenant": tenant},
            )
            page = answer.raise_for_status().json()
            for row in page["rows"]:
                usage = Usage(
                    input=row["input_tokens"],
                    cached=row["cached_tokens"],
                    output=row["output_tokens"],
                )
                found[tenant, grouping, row[grouping]] = Bill(usage, row["price"], row["calls"])
            if not page["more"]:
                return found

    async def _letters(self) -> list[DeadLetter]:
        """All dead letters there are."""
        page = Page(f"$JS.API.DIRECT.GET.{DEAD}", "dead.>")
        found: list[DeadLetter] = []
        while not page.ended:
            found += [decode(message.data, DeadLetter) for message in await page.read(self.bus)]
        return found


@contextlib.asynccontextmanager
async def _ending(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await _cancel([task])


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
