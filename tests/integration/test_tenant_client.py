"""A tenant's own user of the bus reads by questions what an operator reads from the streams."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import orjson
import pytest
import pytest_asyncio

from infra.local.settings import ROOT, inherited_environment
from services.cli.adapters import client as cli
from shared.bus import claims
from shared.bus.asking import Asking
from shared.bus.connect import Bus
from shared.client import Millrace
from shared.contracts.base import Message, SessionRef, encode
from shared.contracts.documents import DocumentChanged
from shared.contracts.facts import Done, Noted
from shared.contracts.log import Event, StoredFact
from shared.contracts.tasks import InputMessage, TaskSubmitted
from shared.contracts.work import DirectRequest
from shared.errors import Permanent
from shared.schedules import Schedule
from shared.subjects import task_subject
from tests.integration.asked_system import Asked, asked_system

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]
LARGE = 1_300_000
"""Characters: more than a message of the bus holds, in parts that each need pieces."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Asked]:
    async with asked_system(tmp_path_factory.mktemp("asked")) as system:
        yield system


def seen(facts: list[StoredFact]) -> list[tuple[object, ...]]:
    """All of a fact but the headers that the server adds to an answer."""
    return [(f.seq, f.time, f.ref, f.kind, f.rest, f.task, f.fact, f.trace_id) for f in facts]


async def all_events(client: Millrace, session: str, after: str = "") -> list[Event]:
    return [event async for event in client.session(session).events(after, follow=False)]


async def done(client: Millrace, order: str, session: str, **options: str) -> str:
    """The id of a task that has ended."""
    task = await client.submit("helper", order, session=session, **options)
    assert (await task.result(40)).status == "completed"
    return task.id


async def test_what_was_before_reads_the_same(asked: Asked) -> None:
    first = await done(asked.tenant, "say one", "before")
    await done(asked.tenant, "call shout 7", "before")
    histories = [await c.session("before").history() for c in (asked.operator, asked.tenant)]
    assert seen(histories[0]) == seen(histories[1])
    assert [fact.kind for fact in histories[1]].count("done") == 2
    assert await all_events(asked.tenant, "before") == await all_events(asked.operator, "before")
    found = await asked.tenant.find_task(first)
    assert (found.session, (await found.result(40)).output) == ("before", "one")
    assert seen(await found.facts()) == seen(await asked.operator.task(first, "before").facts())


async def test_a_task_is_followed_from_its_beginning_after_its_end(asked: Asked) -> None:
    await done(asked.operator, "say zero", "late")
    task = await done(asked.operator, "say one", "late")
    events = [event async for event in asked.tenant.task(task, "late").events()]
    assert {event.task for event in events} == {task}
    assert [event.kind for event in events if event.kind != "delta"] == [
        "task",
        "accepted",
        "inferred",
        "done",
    ]


async def test_every_place_of_a_session_is_gone_on_from_alike(asked: Asked) -> None:
    await done(asked.tenant, "say one two three", "places")
    await done(asked.tenant, "call shout 1", "places")
    events = await all_events(asked.operator, "places")
    for at, event in enumerate(events):
        assert await all_events(asked.tenant, "places", event.id) == events[at + 1 :]


async def test_a_late_joiner_has_no_gap_and_nothing_twice(asked: Asked) -> None:
    """Viewers come while the log is written, wherever it has come just then."""
    joined: list[asyncio.Task[list[int]]] = []

    async def watch() -> list[int]:
        found: list[int] = []
        async with aclosing(asked.tenant.session("live").events()) as events:
            async for event in events:
                found += [int(event.id)] if isinstance(event.data, Noted) else []
                if len(found) == 60:
                    return found
        return found

    ref = SessionRef("acme", "live")
    for n in range(60):
        if n % 10 == 5:
            joined.append(asyncio.create_task(watch()))
        await asked.operator.log.append(ref, Noted(note=f"n{n}"))
    written = [fact.seq for fact in await asked.operator.log.read(ref)]
    for viewer in joined:
        assert await asyncio.wait_for(viewer, 40) == written


async def test_more_facts_than_one_answer_holds(asked: Asked) -> None:
    ref = SessionRef("acme", "long")
    many = [Noted(note=f"n{n}", messages=(InputMessage(role="user", content="x" * 30_000),))
            for n in range(50)]  # fmt: skip
    await asyncio.gather(*(asked.operator.log.append(ref, note) for note in many))
    history = await asked.tenant.session("long").history()
    assert len(history) == 50
    assert seen(history) == seen(await asked.operator.session("long").history())


async def test_large_bodies_come_in_pieces(asked: Asked) -> None:
    """One in parts, beside a message that is as large as the bus takes; live and afterwards."""
    heard: list[Event] = []
    ref = SessionRef("acme", "large")
    body = encode(TaskSubmitted(input="é\n" * 240_000))
    assert claims.LIMIT < len(body) < 1 << 20
    await asked.operator.bus.publish(task_subject(ref, "nobody"), body)
    async with aclosing(asked.tenant.session("large").events()) as events:
        async for event in events:
            heard.append(event)
            if event.kind == "done":
                await asked.operator.log.append(ref, Noted(note="big", metadata={"k": "v" * LARGE}))
            if event.kind == "noted":
                break
    assert heard == await all_events(asked.operator, "large")
    assert heard == await all_events(asked.tenant, "large")
    assert heard[-1].data == Noted(note="big", metadata={"k": "v" * LARGE})


async def test_what_is_no_json_reads_the_same(asked: Asked) -> None:
    ref = SessionRef("acme", "broken")
    for body in (b"\xff\xfe", b"{", b"", b'{"input": 1}'):
        await asked.operator.bus.publish(task_subject(ref, "helper"), body)
    history = await asked.operator.session("broken").history()
    assert len(history) >= 4
    assert seen(await asked.tenant.session("broken").history(history[0].seq - 1))[:4] == seen(
        history[:4]
    )


async def test_a_message_with_headers_that_fill_an_answer_does_not_hide_the_others(
    asked: Asked,
) -> None:
    headers = {"Millrace-Task": "t1", "X-Large": "\\" * 60_000}
    subject = task_subject(SessionRef("acme", "headers"), "nobody")
    await asked.operator.bus.publish(subject, encode(TaskSubmitted(input="x")), headers)
    await asked.operator.bus.publish(subject, encode(TaskSubmitted(input="y")))
    history = await asked.tenant.session("headers").history()
    assert [f.fact.input for f in history if isinstance(f.fact, TaskSubmitted)] == ["x", "y"]
    assert history[0].task == "t1"


async def test_a_fork_is_read_with_its_parent(asked: Asked) -> None:
    task = await done(asked.tenant, "call shout 3", "parent")
    fork = await asked.tenant.fork("parent", at=f"{task}.1", name="child")
    async with aclosing(fork.events()) as events:
        async for event in events:
            if isinstance(event.data, Done):
                break
    told = [await client.session("child").history() for client in (asked.operator, asked.tenant)]
    assert seen(told[0]) == seen(told[1])
    assert [fact.kind for fact in told[1]][:2] == ["task", "accepted"]  # the parent's
    assert await fork.origin() == await asked.operator.session("child").origin() is not None


async def test_a_task_is_steered_by_what_is_read(asked: Asked) -> None:
    """To approve its only step a client reads the log; a named retry looks for itself in it."""
    task = await asked.tenant.submit("careful", "call pay 5", session="paid")
    async with aclosing(task.events()) as events:
        async for event in events:
            if event.kind == "parked":
                await task.approve()
            if event.kind == "done":
                break
    failed = await asked.tenant.submit("astray", "say x", session="failed")
    assert (await failed.result(40)).status == "failed"
    retried = await failed.retry("again")
    assert (await retried.result(40)).status == "failed"
    assert (await failed.retry("again")).id == "again"


async def test_a_repeated_task_is_found_again(asked: Asked) -> None:
    options = {"session": "same", "task": "mine", "fingerprint": "f1"}
    await (await asked.tenant.submit("helper", "say one", **options)).result(40)
    again = await asked.tenant.submit("helper", "say one", **options)
    assert (await again.result(40)).output == "one"
    with pytest.raises(Permanent, match="idempotency_conflict"):
        await asked.tenant.submit("helper", "say two", **options | {"fingerprint": "f2"})


async def test_the_sessions_are_the_tenants(asked: Asked) -> None:
    for session in ("a1", "a2"):
        await done(asked.tenant, "say x", session)
    assert await asked.tenant.sessions() == await asked.operator.sessions()
    assert {"a1", "a2"} <= set(await asked.tenant.sessions())
    assert await asked.other.sessions() == []


async def test_documents_are_listed_and_read(asked: Asked) -> None:
    ours = asked.operator.documents("handbook")
    await ours.upsert("a/b ä", "text", {"k": "v"})
    await ours.upsert("large", "ß" * LARGE)
    await ours.upsert("gone", "x")
    await ours.delete("gone")
    theirs = asked.tenant.documents("handbook")
    assert await theirs.list() == await ours.list() == ["a/b ä", "large"]
    for name in ("a/b ä", "large", "gone", "never"):
        assert await theirs.get(name) == await ours.get(name)
    assert await asked.other.documents("handbook").list() == []
    assert await asked.other.documents("handbook").get("large") is None


class Meddled(Asking):
    """Something happens just before the first piece of a body is asked for."""

    def __init__(self, bus: Bus, tenant: str, happens: Callable[[], Awaitable[object]]) -> None:
        super().__init__(bus, tenant)
        self._happens: Callable[[], Awaitable[object]] | None = happens

    async def ask[A: Message](self, what: str, question: Message, kind: type[A]) -> A:
        if what == "piece" and self._happens is not None:
            happens, self._happens = self._happens, None
            await happens()
        return await super().ask(what, question, kind)


async def test_a_body_that_is_replaced_while_it_is_read(asked: Asked) -> None:
    """A newest message is looked up again; among many the newer one comes behind the others."""
    name = "moved"
    subject = f"docs.acme.moved.{name}"
    bodies = [encode(DocumentChanged(document=name, text=text * 300_000)) for text in "ab"]

    async def replace() -> None:
        await asked.operator.bus.publish(subject, bodies[1])

    async with asked.secured.connected("tenant-acme") as bus:
        docs = Millrace(bus).documents("moved")
        for read in (docs.get, lambda _: docs.list()):
            await asked.operator.bus.publish(subject, bodies[0])
            bus.reader = Meddled(bus, "acme", replace)
            found = await read(name)
            assert found in ([name], DocumentChanged(document=name, text="b" * 300_000))


async def test_what_is_removed_while_it_is_read_is_not_there(asked: Asked) -> None:
    ref, large = SessionRef("acme", "removed"), 0
    for text in ("x", "y" * 600_000, "z"):
        body = encode(TaskSubmitted(input=text))
        ack = await asked.operator.bus.publish(task_subject(ref, "nobody"), body)
        large = ack.seq if len(text) > 1 else large

    async def remove() -> None:
        await asked.operator.bus.api("STREAM.MSG.DELETE.RUNS", {"seq": large})

    async with asked.secured.connected("tenant-acme") as bus:
        client = Millrace(bus)
        bus.reader = Meddled(bus, "acme", remove)
        history = await client.session("removed").history()
    tasks = [fact.fact.input for fact in history if isinstance(fact.fact, TaskSubmitted)]
    assert tasks == ["x", "z"]


@pytest.mark.parametrize(
    "refused",
    [
        lambda m: m.documents().upsert("d", "text"),
        lambda m: m.schedules.put("s", Schedule(agent="helper", task=TaskSubmitted(input="x"),
                                                every_s=90)),
        lambda m: m.schedules.list(),
        lambda m: m.session("s").check(),
        lambda m: m.workers(),
        lambda m: m.agents(),
        lambda m: m.documents().state(),
        lambda m: anext(m.complete(DirectRequest(id="d", tenant="acme", model="x", messages=()))),
    ],
    ids=["upsert", "schedule", "schedules", "replay", "workers", "agents", "index", "complete"],
)  # fmt: skip
async def test_what_a_tenants_client_cannot_do_says_so_before_it_is_sent(
    asked: Asked, refused
) -> None:
    before = asked.tenant.bus.denials.counts.total()
    with pytest.raises(Permanent, match="not_over_nats"):
        await refused(asked.tenant)
    assert asked.tenant.bus.denials.counts.total() == before


async def test_a_large_task_is_sent_over_http(asked: Asked) -> None:
    with pytest.raises(Permanent, match="POST /v1/tasks") as refused:
        await asked.tenant.submit("helper", "x" * LARGE)
    assert refused.value.code == "payload_too_large"


async def test_the_tenant_is_the_one_of_the_credentials(asked: Asked) -> None:
    assert asked.tenant.tenant == "acme"
    with pytest.raises(Permanent, match="wrong_tenant"):
        asked.tenant.for_tenant("other")


async def test_the_command_line_speaks_for_whose_key_it_has(asked: Asked) -> None:
    task, own = await done(asked.operator, "say one", "typed"), asked.secured.address("tenant-acme")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli", "logs", "typed", "--json"),
        env=inherited_environment()
        | {"MILLRACE_NATS_URL": own.url, "MILLRACE_NATS_CREDS": str(own.creds)},
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert {orjson.loads(line)["task"] for line in out.splitlines()} == {task}
    with pytest.raises(Permanent, match="wrong_tenant: these are the credentials of 'acme'"):
        async with cli.connect(own, "other"):
            pass
