"""The load: what tasks there are, how they are submitted, followed, cancelled. All from a seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import nats.errors

from shared.client import Millrace
from shared.contracts.base import SessionRef
from shared.contracts.log import MSG_ID, TASK_HEADER
from shared.errors import MillraceError, Permanent
from shared.subjects import task_subject
from tests.chaos.evidence import Submission
from tests.chaos.model import Order, write_order

TENANTS = ("default", "acme", "umbrella")
AGENT = "chaos"
TENANT_HEADER = "X-Millrace-Tenant"
_QUICK = ("echo", "flaky", "refuse", "slow")
BAD_SHARE, CANCEL_SHARE, HTTP_SHARE, READ_SHARE = 0.08, 0.10, 0.35, 0.6


@dataclass(frozen=True)
class Plan:
    """A submission, when it comes (seconds from the beginning) and what is done with it."""

    submission: Submission
    at: float
    over_http: bool
    cancel_after: float | None
    read_by: str | None
    stalls: bool = False
    """The reader stops reading now and then."""


@dataclass(frozen=True)
class Shape:
    """How a scenario's tasks look."""

    tasks: int
    spread: float
    """Seconds over which they are submitted."""
    """Whether the tool with a side effect is asked for."""
    words: tuple[int, int] = (8, 40)
    stalling: bool = False


def plans(scenario: str, shape: Shape, seed: int) -> list[Plan]:
    """The tasks of a scenario; the first one is long, and every tenant has the same sessions."""
    chosen = random.Random(f"{seed}/{scenario}")
    per_tenant = max(1, shape.tasks // 6)
    found: list[Plan] = []
    for n in range(shape.tasks):
        tenant = TENANTS[n % len(TENANTS)]
        ref = SessionRef(tenant, f"{scenario}-{chosen.randrange(per_tenant)}")
        task = f"{scenario}-t{n // len(TENANTS)}"  # the same ids for every tenant, too
        order = _order(chosen, f"mk-{scenario}-{n}", shape, long=n == 0)
        found.append(_plan(chosen, Submission(ref, task, order), shape, n))
    return found


def _order(chosen: random.Random, mark: str, shape: Shape, *, long: bool) -> Order:
    if long:
        return Order(mark, tuple(("echo",) for _ in range(25)), 8)
    tools = (*_QUICK, "effect", "effect")
    rounds = tuple(
        tuple(chosen.choice(tools) for _ in range(chosen.randint(1, 3)))
        for _ in range(chosen.randint(1, 3))
    )
    return Order(mark, rounds, chosen.randint(*shape.words))


def _plan(chosen: random.Random, submission: Submission, shape: Shape, n: int) -> Plan:
    at = chosen.uniform(0, shape.spread) if n else 0.0
    over_http, cancel = chosen.random() < HTTP_SHARE, chosen.random() < CANCEL_SHARE
    read = chosen.random() < READ_SHARE
    if n and chosen.random() < BAD_SHARE:
        submission.bad = chosen.choice(("invalid_task", "unknown_agent"))
        over_http = cancel = False
    return Plan(
        submission,
        at,
        over_http,
        chosen.uniform(0.05, 3.0) if cancel and n else None,
        chosen.choice(("sse", "feed")) if read else None,
        shape.stalling and read,
    )


class Submitter:
    """Submits until it is acknowledged: from then on nothing may be lost."""

    def __init__(self, client: Millrace, http: httpx.AsyncClient, urls: Sequence[str]) -> None:
        self._client, self._http, self._urls = client, http, urls
        self._turn = 0

    def url(self) -> str:
        """The ingresses in turn: any of them will do."""
        self._turn += 1
        return self._urls[self._turn % len(self._urls)]

    async def submit(self, plan: Plan, within: float) -> None:
        """Try for at most `within` seconds."""
        try:
            async with asyncio.timeout(within):
                while not await self._once(plan):
                    await asyncio.sleep(0.3)
        except TimeoutError:
            return
        plan.submission.acknowledged = True

    async def _once(self, plan: Plan) -> bool:
        one = plan.submission
        try:
            if plan.over_http:
                return await self._post(one)
            if one.bad == "invalid_task":
                await self._malformed(one)
            else:
                agent = "nobody" if one.bad else AGENT
                client = self._client.for_tenant(one.ref.tenant)
                await client.submit(
                    agent, write_order(one.order), session=one.ref.session, task=one.task
                )
        except (MillraceError, nats.errors.Error, httpx.HTTPError):
            return False
        return True

    async def _post(self, one: Submission) -> bool:
        body = {"agent": AGENT, "session": one.ref.session, "input": write_order(one.order)}
        headers = {TENANT_HEADER: one.ref.tenant, "Idempotency-Key": f"key-{one.task}"}
        answer = await self._http.post(f"{self.url()}/v1/tasks", json=body, headers=headers)
        if answer.status_code != 202:
            return False
        one.task = answer.json()["task"]
        return True

    async def _malformed(self, one: Submission) -> None:
        """Not through the client, which would not let it pass."""
        headers = {MSG_ID: f"{one.ref}/{one.task}/task", TASK_HEADER: one.task}
        await self._client.bus.publish(task_subject(one.ref, AGENT), b'{"input": [', headers)

    async def cancel(self, plan: Plan, tries: int = 20) -> None:
        """Ask for the task's end; one that has ended already is left alone."""
        one = plan.submission
        one.cancelled = True  # from the first try on: what got no answer may have been heard
        task = self._client.for_tenant(one.ref.tenant).task(one.task, one.ref.session)
        for _ in range(tries):
            try:
                await task.cancel(by="chaos")
            except Permanent:
                return
            except (MillraceError, nats.errors.Error):
                await asyncio.sleep(0.5)
            else:
                return
