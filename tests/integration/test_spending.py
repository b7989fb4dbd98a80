"""A replica that counts what the log says, on a real broker: from where it began, and through a
restart of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from services.ingress.adapters.accounts import Accounts
from services.ingress.adapters.bus import Link
from services.ingress.adapters.spending import Spending
from shared.bus.connect import Bus
from shared.bus.log import RunLog
from shared.bus.tasks import Origin, submit_task
from shared.contracts.base import SessionRef
from shared.contracts.facts import Completed, Usage
from shared.contracts.keys import Allowance, NewKey
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Transient
from shared.subjects import DIRECT_SESSION
from tests.fakes.keys import FakeKeys
from tests.fakes.ledger_log import inferred
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import LOG
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
REF = SessionRef("acme", "s1")
PRICE = 1_500
"""Of a call of `inferred`."""


@pytest.fixture
async def link(nats_server: NatsServer, bus: Bus) -> AsyncIterator[Link]:
    found = Link(LOG)
    async with found.open(nats_server.address):

        def connected() -> bool:
            with suppress(Transient):
                found.client()
                return True
            return False

        await until(connected)
        yield found


def direct(number: int, price: int, key: str = "") -> Completed:
    usage = Usage(input=1, output=1)
    return Completed(id=f"c{number}", model="m", worker="w", usage=usage, price=price, key=key)


async def test_each_fact_counts_once_from_where_the_replica_began(
    link: Link, bus: Bus, nats_server: NatsServer
) -> None:
    ring, log = FakeKeys(), RunLog(bus)
    key = ring.issue("acme", NewKey(allowance=Allowance(tokens_per_minute=10**6))).key.id
    accounts = Accounts(ring, Allowance())
    outside = SessionRef("acme", DIRECT_SESSION)
    await log.append(outside, direct(0, 9))  # before: that is for the ledger to tell

    def spent(whose: str = "") -> int:
        used = accounts.key(whose) if whose else accounts.tenant("acme")
        return sum(used.spent.days.values())

    async with Spending(link, accounts, LOG, asyncio.Event()).open():
        await until(lambda: listening(bus))
        await submit_task(bus, REF, "helper", "t1", TaskSubmitted(input="x"), Origin(key=key))
        await log.append(REF, inferred("t1", 0))
        await log.append(outside, direct(1, 70, key))
        await until(lambda: spent() == PRICE + 70)
        nats_server.restart()
        large = inferred("t1", 2, content="x" * 400_000)  # its body does not lie in its message
        await log.append(REF, large, patience=60)
        await log.append(outside, direct(2, 5), patience=60)
        await until(lambda: spent() == 2 * PRICE + 75)
        assert spent(key) == 2 * PRICE + 70
    assert not await listening(bus), "nobody reads there any more"


async def listening(bus: Bus) -> bool:
    names = (await bus.api("CONSUMER.NAMES.RUNS"))["consumers"] or []
    return any(name.startswith("spending-") for name in names)


async def test_nobody_listens_where_nobody_is_bounded(link: Link, bus: Bus) -> None:
    ring = FakeKeys()
    ring.issue("acme")
    accounts, changed = Accounts(ring, Allowance()), asyncio.Event()
    spending = Spending(link, accounts, LOG, changed)
    async with spending.open():
        await spending.look()
        assert not await listening(bus)
        ring.allowances["acme"] = Allowance(budget_per_day=100)
        changed.set()
        await until(lambda: listening(bus))
