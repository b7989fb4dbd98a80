"""What a client publishes and hears nothing of for a while: it is stored all the same, and once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from shared.bus import claims, connect, repeat, topology
from shared.bus.connect import Bus, PubAck, open_bus
from shared.bus.kv import KeyValue
from shared.client import Millrace
from shared.clock import monotonic, now
from shared.contracts.schedules import Schedule
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Permanent, Transient
from shared.subjects import BLOBS, DOCS, KEYS, RUNS, TIMERS
from shared.telemetry import configure
from tests.integration.broker_process import NatsServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
STALL = 4.0
"""Seconds: longer than a single publication waits."""


async def messages(bus: Bus, stream: str) -> int:
    return int((await bus.api(f"STREAM.INFO.{stream}"))["state"]["messages"])


def later() -> Schedule:
    return Schedule(agent="helper", task=TaskSubmitted(input="x"), session="s1", at=now() + 3600.0)


@pytest.fixture
def unheard(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The subjects whose first message was stored, and its acknowledgement lost."""
    lost: list[str] = []
    real = bus.publish

    async def publish(
        subject: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        patience: float = 3.0,
    ) -> PubAck:
        ack = await real(subject, body, headers, patience)
        if subject in lost:
            return ack
        lost.append(subject)
        raise Transient("bus_unavailable", "lost on its way")

    monkeypatch.setattr(bus, "publish", publish)
    return lost


async def test_a_task(bus: Bus, unheard: list[str]) -> None:
    client = Millrace(bus)
    task = await client.submit("helper", "x", session="s1", fingerprint="f")
    assert unheard == ["tasks.default.helper.s1"]
    (fact,) = await client.session("s1").history()
    assert (fact.task, await messages(bus, RUNS)) == (task.id, 1)


async def test_a_schedule(bus: Bus, unheard: list[str]) -> None:
    schedules = Millrace(bus).schedules
    put = await schedules.put("once", later())
    assert len(unheard) == await messages(bus, TIMERS) == 1
    assert [one.sequence for one in await schedules.list()] == [put]


@pytest.mark.parametrize("before", ["", "short", "long " * 100])
@pytest.mark.parametrize("text", ["short, too", "longer " * 100])
async def test_a_document(
    bus: Bus,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    text: str,
) -> None:
    """With and without parts of its own, in the place of one with and without them."""
    monkeypatch.setattr(claims, "LIMIT", 300)
    monkeypatch.setattr(claims, "PART", 200)
    handbook = Millrace(bus).documents("handbook")
    if before:
        await handbook.upsert("a", before)
    unheard = request.getfixturevalue("unheard")
    stored = await handbook.upsert("a", text)
    found = await handbook.get("a")
    assert found is not None
    assert found.text == text
    assert "docs.default.handbook.a" in unheard
    state = (await bus.api(f"STREAM.INFO.{DOCS}"))["state"]
    assert (state["messages"], state["last_seq"]) == (1, stored), "stored once"
    assert stored == (2 if before else 1)
    parts = -(-len(text) // 200) if len(text) > 300 else 0
    assert await messages(bus, BLOBS) == parts, "none is left behind"


async def test_a_disk_that_stalls(tmp_path: Path) -> None:
    """The server stands still for longer than a publication waits; nobody hears an error."""
    server = NatsServer(tmp_path)
    server.start()
    try:
        async with open_bus(server.address(), "test", configure("test", "critical")) as bus:
            await topology.ensure(bus)
            client = Millrace(bus)
            server.tell(signal.SIGSTOP)
            asyncio.get_running_loop().call_later(STALL, server.tell, signal.SIGCONT)
            begun = monotonic()
            await asyncio.gather(
                client.submit("helper", "x", session="s1", task="t1"),
                client.documents("handbook").upsert("a", "x"),
                client.schedules.put("once", later()),
            )
            assert monotonic() - begun >= STALL
            assert [await messages(bus, stream) for stream in (RUNS, DOCS, TIMERS)] == [1, 1, 1]
    finally:
        server.kill()


async def test_a_server_that_stays_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeat, "WITHIN", 1.0)
    server = NatsServer(tmp_path)
    server.start()
    async with open_bus(server.address(), "test", configure("test", "critical")) as bus:
        await topology.ensure(bus)
        server.kill()
        with pytest.raises(Transient) as away:
            await Millrace(bus).submit("helper", "x", session="s1")
        assert away.value.code == "bus_unavailable"


async def test_what_is_wrong_is_said_at_once() -> None:
    calls = 0

    async def publish() -> PubAck:
        nonlocal calls
        calls += 1
        raise Permanent("payload_too_large", "x")

    with pytest.raises(Permanent):
        await repeat.until_acknowledged(publish)
    assert calls == 1


async def test_a_burst_waits_here_and_not_at_the_server(bus: Bus) -> None:
    """Only so many are under way, so that the time of none begins before it is its turn."""
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, len(bus._waiting))
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    count = 3 * connect._UNACKNOWLEDGED
    await asyncio.gather(*(bus.publish(f"dead.test.{n}", b"{}") for n in range(count)))
    watching.cancel()
    assert most == connect._UNACKNOWLEDGED


@pytest.mark.parametrize("expected", [None, 0])
async def test_a_key_of_a_bucket(bus: Bus, unheard: list[str], expected: int | None) -> None:
    keys = KeyValue(bus, KEYS)
    revision = await keys.put_surely("a", b"{}", expected)
    assert len(unheard) == 1
    entry = await keys.get("a")
    assert entry is not None
    assert (entry.revision, entry.value) == (revision, b"{}")


async def test_a_key_that_somebody_else_wrote(bus: Bus, unheard: list[str]) -> None:
    keys = KeyValue(bus, KEYS)
    await keys.put_surely("a", b"theirs")
    with pytest.raises(Permanent) as refused:
        await keys.put_surely("a", b"ours", 0)
    assert refused.value.code == "wrong_last_sequence"
