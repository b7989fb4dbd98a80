"""What keys stand for, on a real broker: one request each, and free again where it was refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.ingress.adapters.bus import Link
from services.ingress.adapters.keyed import BusKeyed
from shared.bus.connect import Bus
from shared.bus.kv import KeyValue
from shared.errors import Permanent, Transient
from shared.subjects import REQUESTS
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import LOG
from tests.integration.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture
async def replicas(nats_server: NatsServer, bus: Bus) -> AsyncIterator[tuple[BusKeyed, BusKeyed]]:
    one, other = Link(LOG), Link(LOG)
    async with one.open(nats_server.address), other.open(nats_server.address):
        await until(lambda: _connected(one, other))
        yield BusKeyed(one), BusKeyed(other)


async def _connected(*links: Link) -> bool:
    try:
        return all(link.client() for link in links)
    except Transient:
        return False


async def test_a_name_stands_for_one_request_at_every_replica(replicas) -> None:
    one, other = replicas
    assert await one.take("default", "k1", "f1")
    assert not await other.take("default", "k1", "f1")
    for replica in replicas:
        with pytest.raises(Permanent, match="another request") as caught:
            await replica.take("default", "k1", "f2")
        assert caught.value.code == "idempotency_conflict"
    assert await other.take("acme", "k1", "f2")


async def test_of_all_that_take_a_name_at_once_one_has_it(replicas) -> None:
    tries = [replicas[n % 2].take("default", "k1", f"f{n}") for n in range(20)]
    found = await asyncio.gather(*tries, return_exceptions=True)
    assert found.count(True) == 1
    refused = [error.code for error in found if isinstance(error, Permanent)]
    assert refused == ["idempotency_conflict"] * 19


async def test_a_name_that_is_given_back_can_be_taken_for_something_else(replicas, bus) -> None:
    one, other = replicas
    for fingerprint in ("f1", "f2"):
        assert await one.take("default", "k1", fingerprint)
        await other.give_back("default", "k1")
    assert await other.take("default", "k1", "f3")
    entries = await KeyValue(bus, REQUESTS).entries()
    assert [(entry.key, entry.value) for entry in entries] == [("default.k1", b"f3")]
