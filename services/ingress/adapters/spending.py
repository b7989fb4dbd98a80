"""Hears from the log what was used, and by whom: the same at every replica.

A replica counts from the end of the log as it was when it began, and asks the ledger once for what
was spent up to there: neither twice nor not at all (decision record 0031). Without a bound on
tokens or money nobody listens.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import nats.errors
from msgspec.structs import replace
from nats.aio.msg import Msg

from services.ingress.adapters.accounts import Accounts
from services.ingress.adapters.bus import Link
from services.ingress.core.access.budgets import Spent, month_of
from shared.bus import topology
from shared.bus.burial import delivery_of
from shared.bus.connect import ApiError, Bus
from shared.bus.log import body_of
from shared.bus.pull import Pull
from shared.clock import mint_id
from shared.contracts.facts import Completed, Done, Forked, Inferred, Usage
from shared.contracts.ledger import RequestsQuery, RequestsReply, UsageQuery, UsageReply
from shared.contracts.log import KEY_HEADER, StoredFact, read_fact
from shared.contracts.tasks import TaskSubmitted
from shared.documents import ask
from shared.errors import MillraceError, Transient
from shared.subjects import LEDGER_REQUESTS, LEDGER_USAGE, spending_consumer
from shared.telemetry import Log

_LOOK = 1.0
_PATIENCE = 5.0
"""Seconds that the ledger may take to come up to where this replica began."""
_PAGE = 500
_TASKS = 65_536
"""Open tasks that are remembered; the key of an older one is asked for again."""
Place = tuple[str, str, str]
"""Tenant, session, task."""


@dataclass(slots=True)
class _Task:
    """Whose a task is, and which of its steps are counted: the first result of a step is billed."""

    key: str
    steps: set[int] = field(default_factory=set)


class Spending:
    """Counts on the accounts of a replica what the log says. `changed` is set with their limits."""

    def __init__(self, link: Link, accounts: Accounts, log: Log, changed: asyncio.Event) -> None:
        self._link, self._accounts, self._log, self._changed = link, accounts, log, changed
        self._row = spending_consumer(mint_id("http"))
        self._pull: Pull | None = None
        self._from = self._last = 0
        self._tasks: OrderedDict[Place, _Task] = OrderedDict()
        self._told = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen meanwhile."""
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._stop()

    async def _stop(self) -> None:
        if self._pull is None:
            return
        await self._pull.stop()
        with suppress(MillraceError, ApiError, nats.errors.Error):
            await topology.delete_consumer(self._link.client().bus, self._row)

    async def _follow(self) -> None:
        while True:
            try:
                await self.look()
                self._told = False
            except (MillraceError, ApiError, nats.errors.Error) as error:
                if not self._told:
                    self._log.warning("ingress.spending_unknown", error=str(error))
                self._told = True
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._changed.wait()
            self._changed.clear()

    async def look(self) -> None:
        """Begin to listen where somebody's use is bounded; learn what is missing of the past.

        Raises:
            Transient: the bus or the ledger is away, or rebuilds.
        """
        if self._pull is None and not self._accounts.metered():
            return
        client = self._link.client()
        if self._pull is None:
            self._from = self._last = await client.log.end()
            self._pull = Pull(client.bus, self._row, self._receive, self._prepare)
            await self._pull.start()
        unknown: dict[str, list[tuple[str, Spent]]] = {}
        for tenant, key, used in self._accounts.budgeted():
            if not used.spent.known:
                unknown.setdefault(tenant, []).append((key, used.spent))
        for tenant, each in unknown.items():
            before = await self._before(client.bus, tenant)
            for key, spent in each:
                spent.learn(before.get(key, {}))

    async def _prepare(self) -> None:
        bus = self._link.client().bus
        await topology.delete_consumer(bus, self._row)
        await topology.ensure_consumer(bus, self._row, self._last + 1)

    async def _before(self, bus: Bus, tenant: str) -> dict[str, dict[str, int]]:
        """What each key of a tenant spent on each day of this month, all of them under "".

        Up to where this replica began to listen.
        """
        found: dict[str, dict[str, int]] = {}
        more = bool(self._from)
        query = UsageQuery(
            tenant=tenant,
            keys=("key", "day"),
            since=month_of(self._accounts.times.now()),
            upto=self._from,
            min_seq=self._from,
            patience_s=_PATIENCE,
            times=False,
            limit=_PAGE,
        )
        while more:
            reply = await ask(bus, LEDGER_USAGE, query, UsageReply, 3 * _PATIENCE)
            if reply.rebuilding:
                raise Transient("ledger_behind", "the ledger reads the log again")
            for row in reply.rows:
                day = row.names["day"]
                for key in {"", row.names["key"]}:
                    days = found.setdefault(key, {})
                    days[day] = days.get(day, 0) + row.price
            query, more = replace(query, offset=query.offset + _PAGE), reply.more
        return found

    async def _receive(self, message: Msg) -> None:
        delivery = delivery_of(message)
        if delivery.sequence <= self._last:
            return
        subject, headers = delivery.subject, delivery.headers
        try:
            body = await body_of(self._link.client().bus, subject, delivery.body, headers)
        except Transient:
            if self._pull is not None:
                self._pull.again()
            return
        self._last = delivery.sequence
        stored = read_fact(subject, body, delivery.sequence, delivery.time, headers)
        if stored is not None:
            await self.count(stored)

    async def count(self, stored: StoredFact) -> None:
        """Count a fact, or remember whose its task is."""
        place = (stored.ref.tenant, stored.ref.session, stored.task)
        match stored.fact:
            case TaskSubmitted():
                self._remember(place, stored.headers.get(KEY_HEADER, ""))
            case Forked() as fork:
                self._remember(place, fork.key)
            case Done():
                self._tasks.pop(place, None)
            case Inferred() as result:
                task = await self._task(place)
                if result.step not in task.steps:
                    task.steps.add(result.step)
                    self._count(stored, task.key, result.usage, result.price)
            case Completed() as completed if completed.price:
                # its tokens were counted where it was asked for, at once
                tenant, price = stored.ref.tenant, completed.price
                self._accounts.spend(tenant, completed.key, price, stored.time)

    def _count(self, stored: StoredFact, key: str, usage: Usage, price: int) -> None:
        tenant, replicas = stored.ref.tenant, self._accounts.replicas
        # every replica hears of it and holds a part of the limit: so each counts a part of it
        self._accounts.charge(tenant, key, (usage.input + usage.output) / replicas)
        self._accounts.spend(tenant, key, price, stored.time)

    def _remember(self, place: Place, key: str) -> _Task:
        found = self._tasks.setdefault(place, _Task(key))
        if len(self._tasks) > _TASKS:
            self._tasks.popitem(last=False)
        return found

    async def _task(self, place: Place) -> _Task:
        """Whose a task is; one that began before this replica did is looked up once."""
        known = self._tasks.get(place)
        if known is not None:
            return known
        tenant, session, task = place
        if not self._accounts.bounded_key(tenant):
            return _Task("")
        query = RequestsQuery(tenant=tenant, session=session, id=task, limit=1)
        try:
            bus = self._link.client().bus
            found = (await ask(bus, LEDGER_REQUESTS, query, RequestsReply)).requests
        except MillraceError:
            return _Task("")  # its tenant is charged all the same
        return self._remember(place, found[0].key if found else "")
