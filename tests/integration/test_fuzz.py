"""Bad input at every subject that a client may write: nothing hangs, dies or is forgotten."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats.errors
import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.ledger.__main__ import serve
from services.ledger.settings import LedgerSettings
from services.retrieval.__main__ import application
from services.retrieval.adapters.memory import MemoryStore
from services.retrieval.adapters.progress import ConsumerProgress
from services.retrieval.handlers import Handlers, Options
from services.retrieval.settings import RetrievalSettings
from shared.bus.connect import Bus, open_bus
from shared.bus.log import Page, RunLog
from shared.bus.service import running
from shared.client import Millrace
from shared.contracts.facts import Done
from shared.contracts.ledger import TasksQuery, TasksReply
from shared.contracts.log import Malformed, StoredFact
from shared.contracts.work import ChatMessage, DirectRequest
from shared.documents import ask
from shared.errors import Transient
from shared.subjects import EMBED, LEDGER_TASKS, LEDGER_USAGE, RUNS, SEARCH
from tests.integration.broker_process import NatsServer
from tests.integration.mutations import bodies, every_odd_body, noise
from tests.integration.running_loop import LOG, Loop, running_loop
from tests.integration.waiting import until
from tests.unit.retrieval.test_handlers import Letters

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
PATIENCE = 30.0
VERBS = (
    "cancel", "steer", "approve", "reject", "result", "note", "retry", "fork", "delete", "dance",
)  # fmt: skip
REQUESTS = {
    "direct": ["direct.route"],
    "search": [SEARCH],
    "embed": [EMBED],
    "tasks": [LEDGER_TASKS],
    "usage": [LEDGER_USAGE],
    "replay": ["replay.default.s1", "replay.default.none"],
    "control": [f"control.default.s{n}.{verb}" for n in (1, 2) for verb in VERBS],
}
ONCE = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # one failure is enough: making it smaller takes longer than the test
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    """All services that listen on the bus, each with a connection of its own."""
    async with (
        running_loop(nats_server, tmp_path, bus) as loop,
        ledger(nats_server, tmp_path),
        retrieval(nats_server, tmp_path),
    ):
        await loop.all()
        await until(lambda: answers(loop.client))
        yield loop


@asynccontextmanager
async def ledger(server: NatsServer, data: Path) -> AsyncIterator[None]:
    chosen = LedgerSettings(data=data, nats_url=server.url, nats_token=server.token)
    stop = asyncio.Event()
    async with open_bus(server.address(), "ledger", LOG) as bus:
        serving = asyncio.create_task(serve(chosen, bus, stop))
        try:
            yield
        finally:
            stop.set()
            await serving


@asynccontextmanager
async def retrieval(server: NatsServer, data: Path) -> AsyncIterator[None]:
    chosen = RetrievalSettings(data=data, nats_url=server.url, nats_token=server.token)
    async with open_bus(server.address(), "retrieval", LOG) as bus:
        handlers = Handlers(Letters(), MemoryStore(), ConsumerProgress(bus), Options(patience=0.5))
        async with running(bus, application(chosen, bus, handlers)):
            yield


async def answers(client: Millrace) -> bool:
    """Whether every service answers a sensible question."""
    try:
        await ask(client.bus, LEDGER_TASKS, TasksQuery(tenant="default"), TasksReply)
        await client.documents().state()
    except Transient:
        return False
    return True


async def alive(loop: Loop) -> None:
    """Everything still does what it is there for."""
    client = loop.client
    task = await client.submit("helper", "tools 2", session="well-behaved")
    assert (await task.result(PATIENCE)).output == "got shout0 shout1"
    sequence = await client.documents("fine").upsert("d", "the well-behaved document")
    found = await client.documents("fine").search("well-behaved", min_seq=sequence)
    assert [passage.document for passage in found.results][:1] == ["d"]
    request = DirectRequest(
        id="fine", tenant="default", model="default",
        messages=(ChatMessage(role="user", content="say fine"),),
    )  # fmt: skip
    events = [event async for event in client.complete(request)]
    assert events[-1].done is not None
    assert events[-1].done.content == "fine"
    await until(lambda: recorded(client, task.id))


async def recorded(client: Millrace, task: str) -> bool:
    query = TasksQuery(tenant="default", task=task)
    found = (await ask(client.bus, LEDGER_TASKS, query, TasksReply)).tasks
    return bool(found) and found[0].status == "completed"


async def answered(bus: Bus, subject: str, body: bytes) -> None:
    """Whatever comes back is JSON, and it comes."""
    try:
        reply = await bus.nc.request(subject, body, timeout=PATIENCE)
    except nats.errors.TimeoutError as error:
        raise AssertionError(f"{subject} did not answer to {body[:300]!r}") from error
    found = orjson.loads(reply.data)
    assert isinstance(found, dict), (subject, body, reply.data)
    if failure := found.get("error"):
        assert failure["code"] != "internal", (subject, body, failure)
        assert failure.get("family") != "broken", (subject, body, failure)


async def settled(bus: Bus) -> None:
    """Every task that was stored has ended, every bad one with its reason and its letter."""
    log = RunLog(bus)
    facts: list[StoredFact] = []

    async def ended() -> bool:
        facts[:] = await log.read_filter("run.>")
        done = {(one.ref, one.task) for one in facts if isinstance(one.fact, Done)}
        return all((one.ref, one.task) in done for one in facts if one.kind == "task")

    await until(ended, within=60.0, every=0.1)
    ends = {(one.ref, one.task): one.fact for one in facts if isinstance(one.fact, Done)}
    bad = [one for one in facts if one.kind == "task" and isinstance(one.fact, Malformed)]
    for one in bad:
        end = ends[one.ref, one.task]
        assert isinstance(end, Done)
        assert end.error is not None
        assert (end.status, end.error.code) == ("failed", "invalid_task")
    wildcards = await stored(bus, "tasks.>")
    wanted = {one.seq for one in bad} | set(wildcards)
    await until(lambda: has_letters(bus, wanted))


async def stored(bus: Bus, subject: str) -> list[int]:
    page, found = Page(f"$JS.API.DIRECT.GET.{RUNS}", subject), list[int]()
    while not page.ended:
        found += [int((one.headers or {})["Nats-Sequence"]) for one in await page.read(bus)]
    return found


async def has_letters(bus: Bus, sequences: set[int]) -> bool:
    dead, after, found = Millrace(bus).dead(everyone=True), 0, set[int]()
    while True:
        page = await dead.list(after=after, limit=500)
        found |= {one.letter.sequence for one in page.letters if one.letter.stream == RUNS}
        if page.next is None:
            return sequences <= found
        after = page.next


names = st.sampled_from(["s1", "s2", "_direct", "a*b", "ä", "x" * 65, "*", ">", "-", "%"])
headers = st.dictionaries(
    st.sampled_from(["Nats-Msg-Id", "Millrace-Task", "traceparent", "X-Other"]),
    st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S")), min_size=1, max_size=80),
    max_size=2,
)


@ONCE
@given(sent=st.lists(st.tuples(names, names, bodies("task"), headers), min_size=20, max_size=40))
async def test_tasks(loop: Loop, sent: list[tuple[str, str, bytes, dict[str, str]]]) -> None:
    bus = loop.client.bus
    for agent, session, body, given_headers in sent:
        chosen = agent if agent in ("*", ">", "ä") else "helper"
        await bus.publish(f"tasks.default.{chosen}.{session}", body, given_headers)
    await settled(bus)
    await alive(loop)


requests = st.one_of(
    st.tuples(st.sampled_from(subjects), bodies(kind)) for kind, subjects in REQUESTS.items()
)


@ONCE
@given(asked=st.lists(requests, min_size=30, max_size=60))
async def test_requests(loop: Loop, asked: list[tuple[str, bytes]]) -> None:
    for session in ("s1", "s2"):
        await loop.client.submit("helper", "call shout", session=session)
    await asyncio.gather(*(answered(loop.client.bus, *one) for one in asked))
    await settled(loop.client.bus)
    await alive(loop)


@ONCE
@given(sent=st.lists(st.tuples(names, bodies("docs")), min_size=20, max_size=40))
async def test_documents(loop: Loop, sent: list[tuple[str, bytes]]) -> None:
    bus = loop.client.bus
    for name, body in sent:
        await bus.publish(f"docs.default.c.{name}", body)
        await bus.publish(f"docs.{name}.{name}.{name}.{name}", body)
    await alive(loop)  # its document comes after all of them


async def test_every_value_of_a_request_replaced(loop: Loop) -> None:
    for kind, subjects in REQUESTS.items():
        found = every_odd_body(kind)
        asked = [(subjects[n % len(subjects)], body) for n, body in enumerate(found)]
        await asyncio.gather(*(answered(loop.client.bus, *one) for one in asked))
    await alive(loop)


async def test_every_value_of_a_task_replaced(loop: Loop) -> None:
    for number, body in enumerate(every_odd_body("task")):
        await loop.client.bus.publish(f"tasks.default.helper.s{number % 40}", body)
    await settled(loop.client.bus)
    await alive(loop)


async def test_noise_everywhere(loop: Loop) -> None:
    """Plain random bytes, the same ones every time."""
    bus, source = loop.client.bus, random.Random(11)  # noqa: S311  # no secret
    for number, body in enumerate(noise(7, 120)):
        await bus.publish(f"tasks.default.helper.n{number % 9}", body)
        await bus.publish(f"docs.default.c.d{number % 9}", body)
    subjects = [subject for group in REQUESTS.values() for subject in group]
    asked = [(source.choice(subjects), body) for body in noise(8, 200)]
    await asyncio.gather(*(answered(bus, *one) for one in asked))
    for subject, body in asked[:40]:  # nobody waits for an answer
        await bus.send(subject, body)
    await settled(bus)
    await alive(loop)
