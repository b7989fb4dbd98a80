"""Real processes, real signals: SIGTERM finishes or hands back what is in hand, within a bound; a
process that was stopped for a while, or killed, does no harm."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest
from nats.aio.msg import Msg

from services.sessions.adapters.partition import checkpoint_key, read_checkpoint
from shared.bus.connect import Bus
from shared.bus.kv import KeyValue
from shared.bus.log import RunLog
from shared.client import Millrace, Task
from shared.contracts.base import SessionRef, encode
from shared.contracts.facts import Done, Inferred, ToolDone
from shared.contracts.retrieval import SearchReply
from shared.contracts.work import RunTool
from shared.subjects import CHECKPOINTS, PARTITIONS, SEARCH, tool_subject
from tests.integration.broker_process import NatsServer
from tests.integration.service_processes import (
    DRAINED_WITHIN,
    WORKER,
    Processes,
    answering,
    drained,
    processes,
)
from tests.integration.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
INSTANT = "tests.bench.worker"


@pytest.fixture
def system(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> Iterator[Processes]:
    with processes(nats_server, tmp_path) as started:
        yield started


@pytest.fixture
def client(bus: Bus) -> Millrace:
    return Millrace(bus)


async def submit(client: Millrace, count: int, steps: int) -> list[Task]:
    return [await client.submit("summer", f"steps {steps}", session=f"s{n}") for n in range(count)]


async def assert_all_end_once(tasks: list[Task], steps: int) -> None:
    for task in tasks:
        assert (await task.result(60)).output == f"{steps} sums"
        facts = [stored.fact for stored in await task.facts()]
        assert sum(isinstance(fact, Done) for fact in facts) == 1
        results = [fact.step for fact in facts if isinstance(fact, Inferred | ToolDone)]
        assert sorted(results) == list(range(2 * steps + 1))


async def facts_stored(bus: Bus) -> int:
    return int((await bus.api("STREAM.INFO.RUNS"))["state"]["last_seq"])


async def owners(bus: Bus) -> Counter[str]:
    kv = KeyValue(bus, CHECKPOINTS)
    entries = [await kv.get(checkpoint_key(n)) for n in range(PARTITIONS)]
    return Counter(read_checkpoint(entry).owner for entry in entries)


async def two_share(bus: Bus) -> bool:
    found = await owners(bus)
    return "" not in found and len(found) == 2 and min(found.values()) >= PARTITIONS // 4


async def two_owners(system: Processes, bus: Bus) -> Popen[bytes]:
    """The loop, with two processes of sessions that share the partitions; the first of them."""
    first = system.start("sessions")
    for name in ("sessions", "router", "tools", INSTANT):
        system.start(name)
    await answering(bus, "sessions", "router", "tools", "inference")
    await until(lambda: two_share(bus))
    return first


@pytest.mark.parametrize("name", ["sessions", "router", "tools", INSTANT])
async def test_a_deploy_replaces_a_process_in_the_middle_of_tasks(
    system: Processes, bus: Bus, client: Millrace, name: str
) -> None:
    """The old one is asked to end while the new one runs beside it already."""
    started = {one: system.start(one) for one in ("sessions", "router", "tools", INSTANT)}
    await answering(bus, "sessions", "router", "tools", "inference")
    system.start(name, worker_id="instead")
    tasks = await submit(client, 10, 12)
    before = await facts_stored(bus)
    await until(lambda: more(bus, before + 60))
    assert await drained(started[name]) < DRAINED_WITHIN
    await assert_all_end_once(tasks, 12)


async def more(bus: Bus, than: int) -> bool:
    return await facts_stored(bus) > than


async def test_a_killed_owner_is_replaced_within_seconds(
    system: Processes, bus: Bus, client: Millrace
) -> None:
    first = await two_owners(system, bus)
    tasks = await submit(client, 10, 12)
    first.kill()
    await until(lambda: one_owns_all(bus), 20)
    await assert_all_end_once(tasks, 12)


async def one_owns_all(bus: Bus) -> bool:
    return len(await owners(bus)) == 1


async def test_an_owner_that_was_stopped_for_a_while_does_no_harm(
    system: Processes, bus: Bus, client: Millrace
) -> None:
    first = await two_owners(system, bus)
    tasks = await submit(client, 10, 20)
    await asyncio.sleep(0.5)
    first.send_signal(signal.SIGSTOP)
    await until(lambda: one_owns_all(bus))  # it is silent, not gone: that takes longer
    await assert_all_end_once(tasks, 20)
    tasks = await submit(client, 10, 12)
    first.send_signal(signal.SIGCONT)
    await assert_all_end_once(tasks, 12)
    await until(lambda: two_share(bus))  # and it takes its share again
    tasks = await submit(client, 10, 4)
    await assert_all_end_once(tasks, 4)
    assert first.poll() is None


async def test_a_router_that_was_stopped_does_not_rescue_living_workers(
    system: Processes, bus: Bus, client: Millrace
) -> None:
    router = system.start("router")
    for name in ("sessions", "tools", INSTANT):
        system.start(name)
    await answering(bus, "sessions", "router", "tools", "inference")
    router.send_signal(signal.SIGSTOP)
    await asyncio.sleep(8)  # longer than a silent worker counts as alive
    router.send_signal(signal.SIGCONT)
    await assert_all_end_once(await submit(client, 5, 4), 4)
    assert "worker.lost" not in system.log()


async def test_a_worker_hands_back_a_generation_that_takes_too_long(
    system: Processes, bus: Bus, client: Millrace
) -> None:
    slow = system.start(WORKER, "0.5", worker_id="slow")
    for name in ("sessions", "router", "tools"):
        system.start(name)
    await answering(bus, "sessions", "router", "tools", "inference")
    task = await client.submit("summer", "say " + "x" * 60, session="s1")  # half a minute
    async for event in task.events():
        if event.kind == "delta":
            break
    system.start(WORKER, "0", worker_id="quick")
    await asyncio.sleep(2)
    assert await drained(slow) < DRAINED_WITHIN
    done = await task.result(40)
    assert done.output == "x" * 60
    spoken = [f.fact for f in await task.facts() if isinstance(f.fact, Inferred)]
    assert [fact.worker for fact in spoken] == ["quick"]


async def test_a_worker_finishes_a_generation_that_takes_a_moment(
    system: Processes, bus: Bus, client: Millrace
) -> None:
    slow = system.start(WORKER, "0.1", worker_id="slow")
    for name in ("sessions", "router", "tools"):
        system.start(name)
    await answering(bus, "sessions", "router", "tools", "inference")
    task = await client.submit("summer", "say " + "x" * 10, session="s1")
    async for event in task.events():
        if event.kind == "delta":
            break
    assert await drained(slow) < DRAINED_WITHIN
    assert (await task.result(40)).output == "x" * 10


@pytest.mark.parametrize("seconds", [2.0, 60.0])
async def test_tools_finish_a_call_or_hand_it_back(
    system: Processes, bus: Bus, seconds: float
) -> None:
    """A call that ends in time is finished by the one that stops, a longer one by another."""
    questions: list[float] = []

    async def search(message: Msg) -> None:
        questions.append(seconds)
        asyncio.get_running_loop().call_later(
            seconds if len(questions) == 1 else 0.0,
            lambda: asyncio.ensure_future(message.respond(encode(SearchReply()))),
        )

    await bus.nc.subscribe(SEARCH, cb=search)
    first = system.start("tools")
    await answering(bus, "tools")
    ref = SessionRef("default", "s1")
    work = RunTool(
        ref=ref, task="t1", step=1, call="c1", name="search_knowledge", arguments='{"query": "x"}'
    )
    await bus.publish(tool_subject(work.name), encode(work), {"Nats-Msg-Id": "w1"})
    await until(lambda: questions)
    second = system.start("tools")
    await asyncio.sleep(2)  # it is there, with nothing to do
    assert await drained(first) < DRAINED_WITHIN
    await until(lambda: result_of(bus, ref))
    assert len(questions) == (1 if seconds < 5 else 2)
    assert await drained(second) < DRAINED_WITHIN


async def result_of(bus: Bus, ref: SessionRef) -> bool:
    return any(isinstance(one.fact, ToolDone) for one in await RunLog(bus).read(ref))
