"""Backup and restore on real servers: what was, is again, and what was in flight goes on once."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from shared import backup as backups
from shared.bus import snapshots, topology
from shared.bus.connect import ApiError, Bus, open_bus
from shared.bus.kv import KeyValue
from shared.client import Millrace
from shared.contracts.facts import Done
from shared.contracts.work import RunTool
from shared.errors import Broken, Permanent
from shared.subjects import AGENTS, CHECKPOINTS, DOCS, LEDGER, MEMORY, RUNS
from shared.telemetry import configure
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import Loop, running_loop, shout

pytestmark = pytest.mark.integration


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    (tmp_path / "agents").mkdir()
    async with running_loop(nats_server, tmp_path / "agents", bus) as loop:
        yield loop


@pytest.fixture
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("other"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def empty(other: NatsServer) -> AsyncIterator[Bus]:
    """A connection to another server with the topology and nothing else."""
    async with open_bus(other.address(), "test", configure("test", "critical")) as bus:
        await topology.ensure(bus)
        yield bus


async def test_a_restored_server_has_every_session_and_goes_on(
    loop: Loop, bus: Bus, empty: Bus, other: NatsServer, tmp_path: Path
) -> None:
    for_ever = asyncio.Event()

    async def stuck(work: RunTool) -> str:
        if work.name == "hang":
            await for_ever.wait()
        return await shout(work)

    loop.run_call = stuck
    await loop.all()
    client = loop.client
    for n in range(4):
        task = await client.submit("helper", "tools 2", session=f"s{n}")
        await task.result(40)
    await KeyValue(bus, MEMORY).put("default.s0.colour", b"blue")
    await bus.publish("docs.default.default.handbook", b"{}")
    waiting = await client.submit("helper", "call hang", session="w1", task="t1")
    async for event in waiting.events():
        if event.kind == "inferred":
            break
    histories = {name: await client.session(name).history() for name in await client.sessions()}

    manifest = await backups.backup(bus, tmp_path / "backup")
    restored = await backups.restore(empty, tmp_path / "backup")

    assert restored == manifest
    assert [one.stream for one in manifest.streams] == list(backups.durable_streams())
    assert (await KeyValue(empty, MEMORY).get("default.s0.colour")).value == b"blue"
    assert [one.key for one in await KeyValue(empty, AGENTS).entries()] == [
        one.key for one in await KeyValue(bus, AGENTS).entries()
    ]
    async with running_loop(other, tmp_path / "agents", empty) as second:
        second.run_call = shout
        await second.all()
        assert set(await second.client.sessions()) == set(histories)
        for name, facts in histories.items():
            found = await second.client.session(name).history()
            assert [(one.seq, one.time, one.fact) for one in found[: len(facts)]] == [
                (one.seq, one.time, one.fact) for one in facts
            ]
        again = await second.client.find_task("t1")
        assert (await again.result(30)).status == "completed"
        ends = [fact for fact in await second.client.session("w1").history()
                if isinstance(fact.fact, Done)]  # fmt: skip
        assert len(ends) == 1
        more = await second.client.submit("helper", "say more", session="s0")
        assert (await more.result(40)).status == "completed"
        for name in histories:
            assert (await second.client.session(name).check()).difference is None
    for_ever.set()


async def test_a_backup_under_load_misses_nothing_that_was_acknowledged(
    loop: Loop, bus: Bus, empty: Bus, other: NatsServer, tmp_path: Path
) -> None:
    await loop.all()
    before = [await loop.client.submit("helper", "tools 3", session=f"b{n}") for n in range(6)]
    taking = asyncio.create_task(backups.backup(bus, tmp_path / "backup"))
    during = 0
    while not taking.done():
        await loop.client.submit("helper", "say x", session=f"d{during}")
        during += 1
    await taking
    await backups.restore(empty, tmp_path / "backup")
    async with running_loop(other, tmp_path / "agents", empty) as second:
        await second.all()
        for n, task in enumerate(before):
            found = await second.client.find_task(task.id)
            assert (await found.result(30)).status == "completed"
            assert (await second.client.session(f"b{n}").check()).difference is None


async def test_projections_begin_again_and_their_readers_go_on(
    bus: Bus, empty: Bus, tmp_path: Path
) -> None:
    client = Millrace(bus)
    for n in range(3):
        await client.submit("helper", "say a", session=f"s{n}")
    await bus.api(f"CONSUMER.CREATE.{RUNS}.passing", {
        "stream_name": RUNS, "config": {"durable_name": "passing", "ack_policy": "explicit"},
    })  # fmt: skip
    await backups.backup(bus, tmp_path / "backup")
    await backups.restore(empty, tmp_path / "backup")
    names = await snapshots.consumers_of(empty, RUNS)
    assert "passing" not in names
    ledger = await empty.api(f"CONSUMER.INFO.{RUNS}.{LEDGER.name}")
    assert (ledger["num_pending"], ledger["delivered"]["stream_seq"]) == (3, 0)


async def test_a_server_that_holds_something_is_left_alone(
    bus: Bus, empty: Bus, tmp_path: Path
) -> None:
    await Millrace(bus).submit("helper", "say a", session="s1")
    await backups.backup(bus, tmp_path / "backup")
    await Millrace(empty).submit("helper", "say other", session="other")
    with pytest.raises(Permanent, match=r"not_empty.*RUNS holds 1 messages"):
        await backups.restore(empty, tmp_path / "backup")
    assert await Millrace(empty).sessions() == ["other"]
    await backups.restore(empty, tmp_path / "backup", force=True)
    assert await Millrace(empty).sessions() == ["s1"]


async def test_nothing_is_restored_under_a_service_that_runs(
    loop: Loop, bus: Bus, tmp_path: Path
) -> None:
    await backups.backup(bus, tmp_path / "backup")
    await loop.start("router", "w1")
    with pytest.raises(Permanent, match=r"services_running.*router, w1"):
        await backups.restore(bus, tmp_path / "backup", force=True)


async def test_a_stream_that_is_there_is_not_restored_over(bus: Bus, tmp_path: Path) -> None:
    chunks: list[bytes] = []
    described = await snapshots.take(bus, DOCS, chunks.append)
    with pytest.raises(ApiError) as caught:
        await snapshots.put(bus, described, chunks)
    assert caught.value.number == snapshots._EXISTS
    await snapshots.drop(bus, DOCS)
    with pytest.raises(Broken, match="restore_failed"):
        await snapshots.put(bus, described, [b"not a snapshot"])


async def test_a_folder_that_is_no_backup(bus: Bus, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    with pytest.raises(Permanent, match="no_backup"):
        await backups.restore(bus, folder)
    await backups.backup(bus, folder)
    with pytest.raises(Permanent, match="folder_exists"):
        await backups.backup(bus, folder)
    with (folder / f"{RUNS}.snapshot").open("r+b") as file:
        file.truncate(10)
    with pytest.raises(Permanent, match=f"damaged_backup.*{RUNS}.snapshot"):
        await backups.restore(bus, folder)
    (folder / f"{RUNS}.snapshot").unlink()
    with pytest.raises(Permanent, match=r"damaged_backup.*cannot be read"):
        await backups.restore(bus, folder)
    manifest = orjson.loads((folder / backups.MANIFEST).read_bytes())
    (folder / backups.MANIFEST).write_bytes(orjson.dumps(manifest | {"format": 99}))
    with pytest.raises(Permanent, match="unknown_format"):
        await backups.restore(bus, folder)


async def test_a_backup_that_fails_leaves_nothing(bus: Bus, tmp_path: Path) -> None:
    await bus.api(f"STREAM.DELETE.{DOCS}")
    with pytest.raises(ApiError, match="stream not found"):
        await backups.backup(bus, tmp_path / "backup")
    assert os.listdir(tmp_path) == []


def test_what_points_into_the_log_is_taken_first() -> None:
    order = backups.durable_streams()
    assert order.index(f"KV_{CHECKPOINTS.name}") < order.index(RUNS) < order.index(DOCS)
    assert len(order) == len(set(order))
    assert not {"WORK", "TOKENS", "KV_workers"} & set(order)


async def test_the_commands_borrow_the_broker_of_a_stopped_system(tmp_path: Path) -> None:
    kept, new = tmp_path / "kept", tmp_path / "new"
    saved = await millrace(kept, "backup", str(tmp_path / "backup"), "--json")
    assert saved.code == 0, saved.err
    streams = orjson.loads(saved.out)["streams"]
    assert list(streams) == list(backups.durable_streams())
    put = await millrace(new, "restore", str(tmp_path / "backup"))
    assert put.code == 0, put.err
    assert "RUNS" in put.out
    assert "restore.md" in put.err
    assert not os.access(new / "nats.json", os.F_OK)  # nothing goes on running


@dataclass(frozen=True)
class Ended:
    code: int | None
    out: str
    err: str


async def millrace(data: Path, *arguments: str) -> Ended:
    """A command of the command line on a data folder, as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", "--data", str(data), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return Ended(process.returncode, out.decode(), err.decode())
