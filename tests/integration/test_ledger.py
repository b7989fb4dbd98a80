"""The ledger as a process on a real broker: its sums equal those over the log, come what may."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from msgspec.structs import replace

from infra.local import broker
from infra.local.settings import ROOT, inherited_environment
from infra.local.supervisor import Supervisor
from services.cli.adapters.client import CommandClient, connect
from services.cli.settings import CliSettings
from shared.contracts import facts as f
from shared.contracts.agents import AgentSpec, Limits, Sampling
from shared.contracts.base import SessionRef, encode
from shared.contracts.ledger import TasksQuery, TasksReply, UsageQuery, UsageReply
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Permanent, Transient
from shared.subjects import fact_subject, task_subject
from shared.telemetry import configure
from tests.fakes import postgres
from tests.fakes.ledger_log import billed, inferred

pytestmark = pytest.mark.integration
LOG = configure("test", "error")
TASKS = 40


class System:
    """A broker and, when asked for, a ledger on it."""

    def __init__(self, data: Path, database: str = "") -> None:
        self.data = data
        self.environment = inherited_environment() | {
            "MILLRACE_DATA": str(data),
            "PYTHONPATH": str(ROOT),
        }
        if database:
            self.environment["MILLRACE_DATABASE_URL"] = database

    async def run(self, *arguments: str) -> asyncio.subprocess.Process:
        command = [sys.executable, "-m", "services.ledger", *arguments]
        return await asyncio.create_subprocess_exec(
            *command, env=self.environment, stderr=asyncio.subprocess.PIPE
        )

    async def millrace(self, *arguments: str) -> tuple[int, bytes]:
        """Exit code and output of the command line."""
        command = [sys.executable, "-m", "services.cli", "--data", str(self.data), *arguments]
        process = await asyncio.create_subprocess_exec(
            *command, env=self.environment, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await asyncio.wait_for(process.communicate(), 40)
        return process.returncode or 0, out

    @asynccontextmanager
    async def ledger(self, *, kill: bool = False) -> AsyncIterator[None]:
        process = await self.run()
        started = asyncio.Event()
        reading = asyncio.create_task(_read(process, started))
        try:
            yield
            if not kill:  # who is told to end before it has begun just dies
                await asyncio.wait_for(started.wait(), 20)
        finally:
            process.kill() if kill else process.terminate()
            code = await asyncio.wait_for(process.wait(), 20)
            await reading
        if not kill:
            assert code == 0


async def _read(process: asyncio.subprocess.Process, started: asyncio.Event) -> None:
    """Read what a process says, to its end; note when it says that it has started."""
    assert process.stderr is not None
    async for line in process.stderr:
        if b"service.started" in line:
            started.set()


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    async with brokered(tmp_path):
        yield System(tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[System]:
    """A system over each kind of database."""
    async with brokered(tmp_path):
        if request.param == "sqlite":
            yield System(tmp_path)
        else:
            with postgres.running() as server:
                yield System(tmp_path, server)


@asynccontextmanager
async def brokered(tmp_path: Path) -> AsyncIterator[None]:
    identity = broker.identity_of(tmp_path)
    supervisor = Supervisor(tmp_path, lambda _change: None, grace=5.0)
    program = broker.program(tmp_path, identity, "2m", inherited_environment())
    prepare = broker.preparation(tmp_path, identity, LOG)
    await asyncio.wait_for(supervisor.start(program, prepare).prepared.wait(), 20)
    try:
        yield
    finally:
        await supervisor.stop()


@pytest.fixture
async def client(system: System) -> AsyncIterator[CommandClient]:
    async with connected(system) as found:
        yield found


@asynccontextmanager
async def connected(system: System) -> AsyncIterator[CommandClient]:
    async with connect(CliSettings().address_on(system.data), "default") as found:
        yield found


async def task(client: CommandClient, number: int) -> None:
    """A task of two results; every third one has a result twice, under another message id."""
    ref, name = SessionRef("default", f"s{number % 5}"), f"t{number}"
    submitted = encode(TaskSubmitted(input="17 * 23?"))
    await client.bus.publish(task_subject(ref, "assistant"), submitted, {"Nats-Msg-Id": name})
    accepted = f.Accepted(
        task=name, agent=AgentSpec(name="assistant"), revision=1, limits=Limits(),
        sampling=Sampling(), deadline=0.0, source=1,
    )  # fmt: skip
    await client.log.append(ref, accepted)
    first = inferred(name, 0, usage=f.Usage(input=100 + number, output=number))
    await client.log.append(ref, first)
    if number % 3 == 0:
        late = inferred(name, 0, usage=f.Usage(input=9_999, output=9_999))
        await client.bus.publish(fact_subject(ref, late), encode(late))
    await client.log.append(ref, f.ToolDone(task=name, step=1, call="c", name="clock", result="1"))
    await client.log.append(ref, f.Done(task=name, status="completed", output="391"))


async def direct(client: CommandClient) -> None:
    used = f.Completed(id="d1", model="nano", worker="w1", usage=f.Usage(input=7, output=3))
    await client.log.append(SessionRef("default", "_direct"), used)


async def settled(client: CommandClient, count: int) -> tuple[UsageReply, TasksReply]:
    """The ledger's answers, once it knows the end of so many tasks."""
    async with asyncio.timeout(25):  # less than the consumer's ack_wait, on purpose
        while True:
            try:
                tasks = await client.tasks(TasksQuery(tenant="default", limit=500))
                usage = await client.usage(UsageQuery(tenant="default", by="task", limit=500))
            except Transient:
                await asyncio.sleep(0.1)
                continue
            if sum(one.done > 0 for one in tasks.tasks) >= count:
                return usage, tasks
            await asyncio.sleep(0.05)


async def check(client: CommandClient) -> UsageReply:
    """The ledger against the log, read and summed up apart from it."""
    wanted = billed(await client.log.read_filter("run.>"), "default")
    last = (await client.log.read_filter("run.>"))[-1].seq
    usage, tasks = await settled(client, TASKS)
    async with asyncio.timeout(25):
        while usage.sequence < last:
            await asyncio.sleep(0.05)
            usage, tasks = await settled(client, TASKS)
    assert len(tasks.tasks) == TASKS
    assert usage.total is not None
    assert (usage.total.usage, usage.total.price) == wanted
    return usage


async def test_the_bill_equals_the_log_through_kills_rebuilds_and_a_lost_database(
    system: System, client: CommandClient
) -> None:
    half = TASKS // 2
    async with system.ledger(kill=True):
        await asyncio.gather(*(task(client, number) for number in range(half)))
        await settled(client, half)
        await direct(client)
        await asyncio.gather(*(task(client, number) for number in range(half, TASKS)))
    async with system.ledger():
        before = await check(client)
    assert await (await system.run("--rebuild")).wait() == 0
    async with system.ledger():
        assert (await check(client)).rows == before.rows
    for path in system.data.glob("ledger.db*"):
        path.unlink()
    async with system.ledger():
        assert (await check(client)).rows == before.rows


async def test_a_malformed_question_is_refused_and_the_ledger_goes_on(
    system: System, client: CommandClient
) -> None:
    async with system.ledger():
        await settled(client, 0)
        bad = await client.bus.request("ledger.tasks", b'{"tenant": 7}')
        assert b"invalid_message" in bad
        empty = await client.tasks(TasksQuery(tenant="nobody"))
        assert empty.tasks == ()


async def test_two_write_the_same_bill_and_one_of_them_dies(either: System) -> None:
    half = TASKS // 2
    async with connected(either) as client, either.ledger(), either.ledger():
        await asyncio.gather(*(task(client, number) for number in range(half)))
        await settled(client, half)
        async with either.ledger(kill=True):
            await asyncio.gather(*(task(client, number) for number in range(half, TASKS)))
        await direct(client)
        await check(client)


async def test_a_rebuild_beside_two_writers_gives_the_same(either: System) -> None:
    """Tasks come in all the while; what was there before is there again, to the cent."""
    half = TASKS // 2
    async with connected(either) as client, either.ledger(), either.ledger():
        await asyncio.gather(*(task(client, number) for number in range(half)))
        await settled(client, half)
        coming = asyncio.gather(*(task(client, number) for number in range(half, TASKS)))
        code, out = await either.millrace("ledger", "rebuild", "--json")
        await coming
        told = orjson.loads(out)
        assert (code, told["same"]) == (0, True)
        assert told["before"][-1]["calls"] >= half
        await direct(client)
        await check(client)


async def test_a_client_reads_what_it_wrote(system: System, client: CommandClient) -> None:
    async with system.ledger():
        await settled(client, 0)
        await task(client, 1)
        last = (await client.log.read_filter("run.>"))[-1].seq
        query = UsageQuery(tenant="default", by="task", min_seq=last, patience_s=20.0)
        assert [row.key for row in (await client.usage(query)).rows] == ["t1"]
        with pytest.raises(Permanent, match="invalid_cursor"):
            await client.usage(replace(query, min_seq=last + 1))
