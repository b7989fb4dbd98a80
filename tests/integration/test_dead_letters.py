"""Dead letters as their owner sees them: listed page by page, shown, and sent again once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.bus.burial import Delivery, publish_dead, time_of
from shared.bus.connect import Bus
from shared.bus.log import RunLog
from shared.client import Millrace
from shared.contracts.base import SessionRef, encode
from shared.contracts.dead import Wanted
from shared.contracts.documents import DocumentChanged
from shared.contracts.facts import Done, Inferred
from shared.contracts.work import RunTool
from shared.dead import DeadLetters
from shared.errors import Failure, Permanent
from shared.subjects import DOCS, RUNS, WORK, document_subject, session_prefix
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import Loop, running_loop
from tests.integration.test_dead import ROUTE
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
ERROR = Failure(code="engine_broken", family="broken", detail="it broke")
STEP = encode(ROUTE)
S1 = SessionRef("default", "s1")


@pytest.fixture
def dead(bus: Bus) -> DeadLetters:
    return Millrace(bus).dead()


async def bury(
    bus: Bus, sequence: int = 1, tenant: str = "default", session: str = "s1", code: str = "x"
) -> None:
    subject = f"{session_prefix(SessionRef(tenant, session))}.inferred"
    found = Delivery(subject, b"{}", RUNS, sequence, 5, 1_790_000_000.0 + sequence)
    await publish_dead(bus, "ledger", found, Failure(code=code))


async def test_letters_come_page_by_page(bus: Bus, dead: DeadLetters) -> None:
    for sequence in range(1, 8):
        await bury(bus, sequence)
    seen: list[int] = []
    after: int | None = 0
    while after is not None:
        page = await dead.list(after=after, limit=3)
        seen += [filed.letter.sequence for filed in page.letters]
        after = page.next
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert (await dead.list(limit=7)).next is None


async def test_letters_are_filtered(bus: Bus, dead: DeadLetters) -> None:
    await bury(bus, 1, code="a")
    await bury(bus, 2, session="s2", code="b")
    for wanted, expected in (
        (Wanted(), [1, 2]),
        (Wanted(session="s2"), [2]),
        (Wanted(consumer="ledger"), [1, 2]),
        (Wanted(consumer="router"), []),
        (Wanted(code="a"), [1]),
    ):
        page = await dead.list(wanted)
        assert [filed.letter.sequence for filed in page.letters] == expected


async def test_a_tenant_sees_its_own_letters_only(bus: Bus, dead: DeadLetters) -> None:
    await bury(bus, 1)
    await bury(bus, 2, tenant="other")
    await bus.publish("dead.x", b"of nobody")
    [own] = (await dead.list()).letters
    [theirs] = (await Millrace(bus, "other").dead().list()).letters
    everything = await Millrace(bus).dead(everyone=True).list()
    assert [filed.tenant for filed in everything.letters] == ["default", "other"]
    assert (await dead.get(own.id)).letter == own.letter
    for refused in (dead.get(theirs.id), dead.retry(theirs.id), dead.get(99), dead.get(0)):
        with pytest.raises(Permanent) as unknown:
            await refused
        assert unknown.value.code == "unknown_letter"


@pytest.mark.parametrize(
    ("wanted", "limit", "code"),
    [
        (Wanted(session="a.b"), 5, "invalid_name"),
        (Wanted(consumer="*"), 5, "invalid_name"),
        (Wanted(), 0, "invalid_limit"),
        (Wanted(), 501, "invalid_limit"),
    ],
)
async def test_a_wrong_question_is_refused(
    dead: DeadLetters, wanted: Wanted, limit: int, code: str
) -> None:
    with pytest.raises(Permanent) as refused:
        await dead.list(wanted, limit=limit)
    assert refused.value.code == code


async def test_the_same_death_has_one_letter(bus: Bus, dead: DeadLetters) -> None:
    for code in ("first", "second"):
        await bury(bus, 1, code=code)
    [filed] = (await dead.list()).letters
    assert filed.letter.error.code == "first"


async def test_a_megabyte_of_headers_still_makes_a_letter(bus: Bus, dead: DeadLetters) -> None:
    subject = f"{session_prefix(SessionRef('default', 's1'))}.task.a"
    headers = {f"X-{n}": "x" * 9000 for n in range(100)}
    found = Delivery(subject, b"x" * 200_000, RUNS, 1, 1, 1_790_000_000.0, headers)
    await publish_dead(bus, "sessions", found, ERROR)
    [filed] = (await dead.list()).letters
    assert len(encode(filed.letter)) < 400_000


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    async with running_loop(nats_server, tmp_path, bus) as loop:
        yield loop


async def test_a_malformed_task_is_sent_again_once(loop: Loop, bus: Bus, dead: DeadLetters) -> None:
    await loop.all()
    await bus.publish("tasks.default.helper.s1", b"{oops", {"Nats-Msg-Id": "mine"})
    await (loop.client.task("mine", "s1")).result(40)
    [filed] = (await dead.list()).letters
    first = await dead.retry(filed.id, by="ada")
    second = await dead.retry(filed.id)
    assert first == second
    assert (await dead.get(filed.id)).retried == first
    await until(lambda: letters_count(dead, 2))  # it is as malformed as before
    submitted = [one for one in await RunLog(bus).read(S1) if one.kind == "task"]
    assert [one.seq for one in submitted] == [filed.letter.sequence, first.sequence]
    done = await loop.client.task(submitted[1].task, "s1").result(40)
    assert done.error
    assert done.error.code == "invalid_task"


async def letters_count(dead: DeadLetters, count: int) -> bool:
    return len((await dead.list()).letters) == count


async def dead_of(bus: Bus, consumer: str, subject: str, body: bytes, stream: str) -> int:
    """A message of a stream, and the id of the letter about it."""
    ack = await bus.publish(subject, body, {"Nats-Msg-Id": f"{subject}-{hash(body)}"})
    place = Delivery(subject, body, stream, ack.seq, 5, 1_790_000_000.0)
    await publish_dead(bus, consumer, place, ERROR)
    return (await Millrace(bus).dead(everyone=True).list()).letters[-1].id


async def test_a_step_is_sent_again_while_its_task_waits_for_it(
    bus: Bus, dead: DeadLetters
) -> None:
    letter = await dead_of(bus, "router", "work.route", STEP, WORK)
    again = await dead.retry(letter)
    assert again.sequence == 2
    assert (await dead.retry(letter)).sequence == 2
    assert (await bus.api("STREAM.INFO.WORK"))["state"]["messages"] == 2


@pytest.mark.parametrize(
    ("fact", "code"),
    [
        (Inferred(task="t1", step=0, content="x"), "step_has_result"),
        (Done(task="t1", status="failed"), "task_ended"),
    ],
)
async def test_a_step_that_nobody_waits_for_is_not_sent_again(
    bus: Bus, dead: DeadLetters, fact: Inferred | Done, code: str
) -> None:
    letter = await dead_of(bus, "router", "work.route", STEP, WORK)
    await RunLog(bus).append(ROUTE.ref, fact)
    with pytest.raises(Permanent) as refused:
        await dead.retry(letter)
    assert refused.value.code == code


async def test_work_that_cannot_be_read_is_sent_again_as_it_is(bus: Bus) -> None:
    letter = await dead_of(bus, "router", "work.route", b"\xffno json", WORK)
    again = await Millrace(bus).dead(everyone=True).retry(letter)
    stored = await bus.api("STREAM.MSG.GET.WORK", {"seq": again.sequence})
    assert stored["message"]["subject"] == "work.route"
    assert stored["message"]["data"] == "/25vIGpzb24="


async def test_a_document_is_sent_again_unless_a_newer_one_came(
    bus: Bus, dead: DeadLetters
) -> None:
    subject = document_subject("default", "handbook", "d")
    body = encode(DocumentChanged(document="d", text="old"))
    letter = await dead_of(bus, "retrieval", subject, body, DOCS)
    assert (await dead.retry(letter)).sequence == 2
    body = encode(DocumentChanged(document="d", text="older"))
    letter = await dead_of(bus, "retrieval", subject, body, DOCS)
    await Millrace(bus).documents("handbook").upsert("d", "new")
    with pytest.raises(Permanent) as refused:
        await dead.retry(letter)
    assert refused.value.code == "superseded"


async def test_a_fact_is_not_appended_a_second_time(bus: Bus, dead: DeadLetters) -> None:
    await bury(bus)
    [filed] = (await dead.list()).letters
    with pytest.raises(Permanent) as refused:
        await dead.retry(filed.id)
    assert refused.value.code == "not_retryable"
    assert "--rebuild" in refused.value.detail


async def test_what_was_cut_is_sent_again_from_its_stream(bus: Bus, dead: DeadLetters) -> None:
    subject = document_subject("default", "handbook", "long")
    body = encode(DocumentChanged(document="long", text="x" * 300_000))
    ack = await bus.publish(subject, body)
    stored = await bus.api("STREAM.MSG.GET.DOCS", {"seq": ack.seq})
    place = (DOCS, ack.seq, 5, time_of(stored["message"]["time"]))
    await publish_dead(bus, "retrieval", Delivery(subject, body, *place), ERROR)
    [filed] = (await dead.list()).letters
    assert filed.letter.original == "cut"
    again = await dead.retry(filed.id)
    found = await Millrace(bus).documents("handbook").get("long")
    assert found
    assert len(found.text) == 300_000
    assert again.sequence == 2


async def test_what_was_cut_and_is_gone_is_refused(bus: Bus, dead: DeadLetters) -> None:
    place = (DOCS, 77, 5, 1_790_000_000.0)
    found = Delivery("docs.default.handbook.d", b"x" * 300_000, *place)
    await publish_dead(bus, "retrieval", found, ERROR)
    [filed] = (await dead.list()).letters
    with pytest.raises(Permanent) as refused:
        await dead.retry(filed.id)
    assert refused.value.code == "original_gone"


async def test_the_owner_of_work_is_found_in_its_body(bus: Bus, dead: DeadLetters) -> None:
    tool = RunTool(
        ref=SessionRef("default", "s9"), task="t1", step=1, call="c", name="n", arguments=""
    )
    await dead_of(bus, "tools", "work.tool.n", encode(tool), WORK)
    [filed] = (await dead.list(Wanted(session="s9"))).letters
    assert filed.letter.error == ERROR
