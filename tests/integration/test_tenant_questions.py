"""The questions themselves: whose they are, what they refuse, and that nobody waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import orjson
import pytest
import pytest_asyncio

from services.retrieval.adapters.asks import answers
from services.sessions.adapters.asks import Asks
from shared.bus.connect import Bus, PubAck
from shared.bus.desk import Answer, Desk, Turns
from shared.contracts.asks import Answered, ReadStored, SearchDocuments
from shared.contracts.base import Message, SessionRef
from shared.contracts.facts import Done, Noted
from shared.errors import Permanent, Transient
from shared.metrics.catalogue import QUESTIONS
from tests.fakes.counted import Moved
from tests.integration.asked_system import Asked, asked_system
from tests.unit.retrieval.test_handlers import Service

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]
REF = SessionRef("acme", "s1")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Asked]:
    async with asked_system(tmp_path_factory.mktemp("questions")) as system:
        for n in range(5):
            await system.operator.log.append(REF, Noted(note=f"n{n}"))
        yield system


async def ask(asked: Asked, what: str, body: object, tenant: str = "acme") -> dict:
    """The answer as any client of the bus gets it."""
    client = {"acme": asked.tenant, "other": asked.other}[tenant]
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return orjson.loads(await client.bus.request(f"ask.{tenant}.{what}", data))


async def test_the_facts_of_a_session_page_by_page(asked: Asked) -> None:
    stored = await asked.operator.log.read(REF)
    subject, after, found = "run.*.acme.s1.>", 0, []
    while after is not None:
        page = await ask(asked, "read", {"subject": subject, "after": after, "limit": 2})
        assert len(page["messages"]) <= 2
        found += page["messages"]
        after = page.get("next")
    assert [row["sequence"] for row in found] == [fact.seq for fact in stored]
    assert [orjson.loads(row["text"])["note"] for row in found] == [f"n{n}" for n in range(5)]
    behind = await ask(asked, "read", {"subject": subject, "after": stored[3].seq})
    assert [row["sequence"] for row in behind["messages"]] == [stored[4].seq]
    assert await ask(asked, "read", {"subject": subject, "after": 1 << 62}) == {}


@asynccontextmanager
async def searching(asked: Asked, service: Service) -> AsyncIterator[None]:
    """A desk of retrieval, over an index in memory."""
    async with asked.secured.connected("retrieval") as bus:
        desk = Desk(bus, answers(service.handlers.search))
        await desk.start()
        yield
        await desk.stop()


FOREIGN = (
    *("run.*.acme.s1.>", "run.*.*.s1.>", "run.>", ">", "*.>", "run.*.>", "run.*.acme2.s1.>"),
    *("tokens.acme.>", "docs.acme.>", "blob.acme.>", "blob.*.*.k.0", "docs.*.c.d", "docs.>"),
    *("tasks.other.a.s1", "$KV.keys.k1", "$KV.agents.other.x", "timer.3.other.s1.t1.x"),
    *("dead.other.>", "run.*.other", "run.3.other.>.x", "run..other.s1.>", "", "run.* .other.s1"),
    *("run.3.other.s1.a*b.>", f"run.*.other.{'x' * 600}", "_INBOX.>", "$JS.API.>", "work.>"),
)


@pytest.mark.parametrize("subject", FOREIGN)
@pytest.mark.parametrize("what", ["read", "last", "latest", "piece"])
async def test_what_is_not_the_tenants_cannot_be_named(
    asked: Asked, what: str, subject: str
) -> None:
    question = {"subjects": [subject]} if what == "latest" else {"subject": subject, "sequence": 1}
    answer = await ask(asked, what, question, "other")
    assert answer["error"]["code"] == "invalid_subject"
    assert set(answer) == {"error"}


async def test_questions_are_counted_by_how_they_end(asked: Asked) -> None:
    ok, failed = (Moved(QUESTIONS, "read", outcome, part="_count") for outcome in ("ok", "failed"))
    assert "error" not in await ask(asked, "read", {"subject": "run.3.acme.s1.noted"})
    await ask(asked, "read", {"subject": "run.3.other.s1.noted"})
    assert (ok.by, failed.by) == (1, 1)


async def test_one_bad_subject_among_many_is_refused(asked: Asked) -> None:
    question = {"subjects": ["run.*.other.s1.>", "run.*.acme.s1.>"]}
    answer = await ask(asked, "latest", question, "other")
    assert answer["error"]["code"] == "invalid_subject"


async def test_another_tenants_sequence_is_not_found(asked: Asked) -> None:
    first = (await asked.operator.log.read(REF))[0]
    assert (await ask(asked, "at", {"sequence": first.seq}))["messages"]
    assert await ask(asked, "at", {"sequence": first.seq}, "other") == {}
    place = {"session": "s1", "sequence": first.seq}
    assert await ask(asked, "place", place) == {}
    assert (await ask(asked, "place", place, "other"))["error"]["code"] == "invalid_cursor"
    piece = {"subject": "run.3.other.s1.noted", "sequence": first.seq}
    assert (await ask(asked, "piece", piece, "other"))["error"]["code"] == "unknown_message"


async def test_other_tenants_names_are_not_found(asked: Asked) -> None:
    task = await asked.tenant.submit("helper", "say x", session="own", task="ours")
    await task.result(40)
    with pytest.raises(Permanent, match="unknown_task"):
        await asked.other.find_task("ours")
    assert await asked.other.session("own").history() == []
    assert await asked.other.sessions() == []


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("read", b"no JSON"),
        ("read", {}),
        ("read", {"subject": "run.*.acme.s1.>", "limit": 251}),
        ("read", {"subject": "run.*.acme.s1.>", "limit": 0}),
        ("read", {"subject": "run.*.acme.s1.>", "after": -1}),
        ("read", {"subject": "run.*.acme.s1.>", "after": 1 << 63}),
        ("latest", {"subjects": []}),
        ("latest", {"subjects": ["run.*.acme.s1.>"] * 17}),
        ("at", {"sequence": "1"}),
        ("sessions", {"limit": 10_000}),
        ("search", {}),
    ],
)
async def test_what_cannot_be_read_says_what_is_wrong(
    asked: Asked, what: str, body: object
) -> None:
    async with searching(asked, Service()):
        answer = await ask(asked, what, body)
    assert answer["error"]["code"] == "invalid_message"
    assert answer["error"]["detail"]


async def test_a_page_is_the_last_one_only_where_the_server_is_not_behind(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cluster: the leader has a fact that the server asked has not heard of yet."""
    ref, question = SessionRef("acme", "behind"), ReadStored(subject="run.*.acme.behind.>")
    first = await asked.operator.log.append(ref, Noted(note="n0"))
    late: list[asyncio.Task[PubAck]] = []

    async def leader(_bus: Bus, _subject: str) -> int:
        late.append(asyncio.create_task(asked.operator.log.append(ref, Noted(note="n1"))))
        return first.seq + 1

    monkeypatch.setattr("services.sessions.adapters.asks.newest", leader)
    monkeypatch.setattr(asked.operator.bus, "replicas", 3)
    asks = Asks(asked.operator.bus, asked.operator.log)
    page = await asks.read("acme", question)
    assert [row.sequence for row in page.messages] == [first.seq, (await late[0]).seq]


async def test_a_server_that_stays_behind_is_said_so(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leader(_bus: Bus, _subject: str) -> int:
        return 1 << 40

    monkeypatch.setattr("services.sessions.adapters.asks.newest", leader)
    monkeypatch.setattr("services.sessions.adapters.asks.BEHIND", (0.0, 0.0))
    monkeypatch.setattr(asked.operator.bus, "replicas", 3)
    with pytest.raises(Transient, match="far behind"):
        await Asks(asked.operator.bus, asked.operator.log).read(
            "acme", ReadStored(subject="run.*.acme.s1.>")
        )


async def test_the_newest_of_many_subjects(asked: Asked) -> None:
    for n in range(12):
        done = Done(task=f"t{n}", status="completed", output="x" * 100_000)
        await asked.operator.log.append(SessionRef("acme", "many"), done)
    question = {"subjects": ["run.*.acme.many.done.*", "run.*.acme.many.accepted.*"]}
    rows = (await ask(asked, "latest", question))["messages"]
    stored = await asked.operator.log.read(SessionRef("acme", "many"))
    assert [row["sequence"] for row in rows] == [fact.seq for fact in stored][-len(rows) :]
    assert 3 < len(rows) < 12
    upto = await ask(asked, "latest", {**question, "upto": stored[2].seq})
    assert [row["sequence"] for row in upto["messages"]] == [fact.seq for fact in stored[:3]]


async def patiently(asked: Asked, what: str, body: object) -> dict:
    """What is asked of a replica just as it ends may be lost with it, and is asked again."""
    async with asyncio.timeout(40):
        while True:
            with suppress(Transient):
                return await ask(asked, what, body)


async def test_any_replica_answers(asked: Asked) -> None:
    question = {"subject": "run.*.acme.s1.>"}
    before = await ask(asked, "read", question)
    await asked.loop.start("sessions2")
    await asked.loop.stop("sessions")
    assert await patiently(asked, "read", question) == before
    await asked.loop.start("sessions")
    await asked.loop.stop("sessions2")
    assert await patiently(asked, "read", question) == before


async def test_a_search_finds_the_tenants_documents_alone(asked: Asked) -> None:
    service = Service()
    await service.put(3, "zebra zoo", tenant="acme")
    await service.put(4, "zebra zebra", tenant="other")
    async with searching(asked, service):
        found = await asked.tenant.documents("c").search("zebra", 9)
        assert [passage.text for passage in found.results] == ["zebra zoo"]
        forged = {"query": "zebra", "collection": "c", "tenant": "other"}
        answer = await ask(asked, "search", forged)
        assert [passage["text"] for passage in answer["results"]] == ["zebra zoo"]
        with pytest.raises(Permanent, match="invalid_limit"):
            await asked.tenant.documents("c").search("zebra", 1000)


async def test_who_asks_without_end_does_not_hold_up_the_others(asked: Asked) -> None:
    """One tenant's questions hang, as many as may wait: it is told so, the other is answered."""
    hanging, go = asyncio.Event(), asyncio.Event()

    async def slow(tenant: str, _question: SearchDocuments) -> Message:
        if tenant == "acme":
            hanging.set()
            await go.wait()
        return Answered()

    async with asked.secured.connected("retrieval") as bus:
        desk = Desk(bus, {"search": Answer(SearchDocuments, slow)}, Turns(2, 1, 3))
        await desk.start()
        three = [asyncio.create_task(ask(asked, "search", {"query": "x"})) for _ in range(3)]
        await asyncio.wait_for(hanging.wait(), 40)
        refused = await ask(asked, "search", {"query": "x"})
        assert (refused["error"]["code"], refused["error"]["family"]) == ("busy", "transient")
        assert refused["error"]["retry_after"] > 0
        assert await ask(asked, "search", {"query": "x"}, "other") == {}
        go.set()
        assert await asyncio.gather(*three) == [{}, {}, {}]
        assert await ask(asked, "search", {"query": "x"}) == {}
        await desk.stop()
