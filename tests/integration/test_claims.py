"""Bodies that are too large for a message, on a real server: nobody but the bus has to know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from shared.bus import claims
from shared.bus.claims import CLAIM
from shared.bus.connect import Bus
from shared.bus.feed import Feed
from shared.bus.log import Page, RunLog
from shared.client import Millrace, Task
from shared.contracts.agents import Sampling
from shared.contracts.base import SessionRef, decode, encode
from shared.contracts.claims import Claim, Claimed
from shared.contracts.facts import Done, Inferred, Steered, ToolDone
from shared.contracts.log import Malformed
from shared.contracts.tasks import TaskSubmitted
from shared.contracts.work import ChatMessage, DirectRequest, RunTool
from shared.errors import Permanent
from shared.subjects import BLOBS, DOCS, blob_filter, blob_subject, session_filter, task_subject
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import Loop, running_loop
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
REF = SessionRef("default", "s1")
LARGE = "wheel " * 400_000
"""2.4 MB."""


@pytest.fixture
def log(bus: Bus) -> RunLog:
    return RunLog(bus)


@pytest.fixture
async def loop(
    nats_server: NatsServer, bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Loop]:
    """A loop for which everything above 300 bytes is large."""
    monkeypatch.setattr(claims, "LIMIT", 300)
    monkeypatch.setattr(claims, "PART", 200)
    async with running_loop(nats_server, tmp_path, bus) as loop:
        yield loop


async def parts(bus: Bus, subject: str = "blob.>") -> list[str]:
    page, found = Page(f"$JS.API.DIRECT.GET.{BLOBS}", subject), list[str]()
    while not page.ended:
        found += [(one.headers or {})["Nats-Subject"] for one in await page.read(bus)]
    return found


# -- facts ----------------------------------------------------------------------------------------


async def test_a_large_fact_is_read_as_it_was_written(log: RunLog, bus: Bus) -> None:
    fact = Done(task="t1", status="completed", output=LARGE)
    ack = await log.append(REF, fact)
    assert [stored.fact for stored in await log.read(REF)] == [fact]
    assert (stored := await log.unique(REF, fact)) is not None
    assert stored.fact == fact
    page = Page("$JS.API.DIRECT.GET.RUNS", session_filter(REF))
    (message,) = await page.read(bus)
    assert len(message.data) < 1000
    assert (await log.append(REF, fact)).seq == ack.seq, "a repetition stores nothing twice"
    assert len(await parts(bus, blob_filter(REF))) == -(-len(encode(fact)) // claims.PART)


async def test_a_small_fact_makes_no_parts(log: RunLog, bus: Bus) -> None:
    await log.append(REF, Inferred(task="t1", step=0, content="x" * 200_000))
    assert await parts(bus) == []


async def test_a_viewer_sees_it_live(log: RunLog, bus: Bus) -> None:
    seen: list[object] = []

    async def watch() -> None:
        async with aclosing(Feed(bus, log).follow(REF)) as events:
            async for event in events:
                seen.append(event.data)
                if len(seen) == 2:
                    return

    await log.append(REF, Steered(task="t1", id="a", text="small"))
    async with asyncio.timeout(20):
        watching = asyncio.create_task(watch())
        await until(lambda: len(seen) == 1)
        await log.append(REF, Steered(task="t1", id="b", text=LARGE))
        await watching
    assert seen[1] == Steered(task="t1", id="b", text=LARGE)


async def test_what_is_beyond_all_bounds_is_refused(
    log: RunLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "MOST", 1 << 20)
    with pytest.raises(Permanent) as refused:
        await log.append(REF, Done(task="t1", status="completed", output=LARGE))
    assert refused.value.code == "payload_too_large"


async def test_a_crash_between_the_parts_and_the_message(log: RunLog, bus: Bus) -> None:
    fact = ToolDone(task="t1", step=1, call="c", name="n", result=LARGE)
    claim = await claims.deposit(bus, REF, encode(fact))
    assert await log.read(REF) == []
    await log.append(REF, fact)
    assert (await log.read(REF))[0].fact == fact
    assert len(await parts(bus, blob_filter(REF))) == claim.parts


@pytest.mark.parametrize(
    ("harm", "code"), [("lost", "payload_missing"), ("changed", "payload_corrupt")]
)
async def test_a_body_that_is_gone_does_not_stop_the_reader(
    log: RunLog, bus: Bus, harm: str, code: str
) -> None:
    fact = Done(task="t1", status="completed", output=LARGE)
    await log.append(REF, fact)
    key = claims.digest_of(encode(fact))
    if harm == "lost":
        await claims.discard(bus, REF, key)
    else:
        await bus.publish(blob_subject(REF, key, 1), b"something else")
    await log.append(REF, Steered(task="t2", id="b", text="after"))
    first, second = await log.read(REF)
    assert isinstance(first.fact, Malformed)
    assert first.fact.error.code == code
    assert isinstance(second.fact, Steered)


# -- the loop -------------------------------------------------------------------------------------


async def submit(loop: Loop, text: str, task: str) -> Task:
    sampling = Sampling(max_tokens=8000)
    return await loop.client.submit("helper", text, session="s1", task=task, sampling=sampling)


async def test_the_loop_runs_on_large_inputs_answers_and_results(loop: Loop, bus: Bus) -> None:
    async def long_result(work: RunTool) -> str:
        return f"<{work.step}>" + "r" * 900

    loop.run_call = long_result
    await loop.all()
    talk = await submit(loop, "say " + "w" * 2000, "t1")
    assert (await talk.result(40)).output == "w" * 2000
    tools = await submit(loop, "tools 2", "t2")
    done = await tools.result(40)
    assert done.output.count("r" * 900) == 2
    session = loop.client.session("s1")
    assert (await session.check()).difference is None
    assert len(await parts(bus, blob_filter(REF))) > 20

    fork = await loop.client.fork("s1", at="t2.0", name="s2", input="say again")
    assert (await loop.client.task("t2", "s2").result(40)).output == "again"
    assert any("w" * 2000 in str(one.fact) for one in await fork.history())
    await fork.delete()
    await session.delete()

    async def gone() -> bool:
        return not await parts(bus)

    await until(gone)  # a deletion takes the parts along


async def test_a_long_message_to_a_running_task(loop: Loop) -> None:
    held = asyncio.Event()

    async def hold(work: RunTool) -> str:
        await held.wait()
        return work.name

    loop.run_call = hold
    await loop.all()
    task = await submit(loop, "steps 1", "t1")
    await until(lambda: bool(loop.calls))
    await task.steer("say " + "z" * 5000)
    held.set()
    assert (await task.result(40)).output == "z" * 5000


async def test_a_task_whose_body_is_gone_fails_with_a_letter(loop: Loop, bus: Bus) -> None:
    """Also one that claims what another session holds: it looks among its own."""
    given = encode(TaskSubmitted(input="say back"))
    theirs = await claims.deposit(bus, SessionRef("default", "s9"), given)
    await loop.all()
    body = encode(Claimed(claim=theirs))
    await bus.publish(task_subject(REF, "helper"), body, {CLAIM: "1", "Millrace-Task": "t1"})
    done = await loop.client.task("t1", "s1").result(40)
    assert done.error is not None
    assert (done.status, done.error.code) == ("failed", "invalid_task")
    (letter,) = (await loop.client.dead().list()).letters
    assert letter.letter.error.code == "payload_missing"
    # what was lost is back: the same message, sent again, is a task like any other
    await claims.deposit(bus, REF, given)
    await loop.client.dead().retry(letter.id)

    async def answered() -> bool:
        facts = [one.fact for one in await loop.client.session("s1").history()]
        return any(isinstance(fact, Done) and fact.output == "back" for fact in facts)

    await until(answered)


# -- stateless completions ------------------------------------------------------------------------


def completion(text: str) -> DirectRequest:
    said = ChatMessage(role="user", content=text)
    sampling = Sampling(max_tokens=8000)
    return DirectRequest(
        id="c1", tenant="default", model="nano", messages=(said,), sampling=sampling
    )


async def test_a_long_conversation_and_a_long_answer(loop: Loop, bus: Bus) -> None:
    await loop.all()
    events = [event async for event in loop.client.complete(completion("say " + "w" * 3000))]
    assert "".join(event.text or "" for event in events) == "w" * 3000
    assert (done := events[-1].done) is not None
    assert done.content == "w" * 3000
    small = [event async for event in loop.client.complete(completion("say x"))]
    assert (small[-1].done or done).content == "x"


async def test_a_conversation_that_is_gone_is_a_typed_error(
    loop: Loop, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await loop.all()

    async def lost(bus: Bus, owner: SessionRef, body: bytes, **rest: str) -> Claim:
        return Claim(key="none", digest=claims.digest_of(body), size=len(body), parts=1)

    monkeypatch.setattr(claims, "deposit", lost)
    events = [event async for event in loop.client.complete(completion("say " + "w" * 3000))]
    assert events[-1].error is not None
    assert events[-1].error.code == "payload_missing"


# -- documents ------------------------------------------------------------------------------------


async def test_a_large_document_and_its_next_versions(bus: Bus) -> None:
    handbook = Millrace(bus).documents("handbook")
    first = await handbook.upsert("a/b", LARGE, {"k": "v"})
    found = await handbook.get("a/b")
    assert found is not None
    assert (found.text, found.metadata) == (LARGE, {"k": "v"})
    assert await handbook.list() == ["a/b"]
    before = await parts(bus)
    second = await handbook.upsert("a/b", LARGE + "more")
    assert second > first
    after = await parts(bus)
    assert len(after) == len(before)
    assert not set(after) & set(before)
    await handbook.upsert("a/b", "short")
    assert await parts(bus) == []
    await handbook.upsert("a/b", LARGE)
    await handbook.delete("a/b")
    assert await handbook.get("a/b") is None
    assert await handbook.list() == []
    assert await parts(bus) == []


async def test_two_writers_of_one_document_leave_the_parts_of_the_last_one(bus: Bus) -> None:
    handbook = Millrace(bus).documents("handbook")
    await asyncio.gather(*(handbook.upsert("a", f"{n}{LARGE}") for n in range(4)))
    found = await handbook.get("a")
    assert found is not None
    entry = await handbook._stream.get("docs.default.handbook.a")
    assert entry is not None
    claim = decode(entry.value, Claimed).claim
    assert len(await parts(bus)) == claim.parts
    assert (await bus.api(f"STREAM.INFO.{DOCS}"))["state"]["messages"] == 1
