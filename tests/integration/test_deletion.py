"""A deleted session is gone: from every stream, bucket, store and table, and from every memory."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.ledger.__main__ import project, recording
from services.ledger.adapters.log import BusLog
from services.ledger.adapters.sql import SqlStore
from services.ledger.handlers.questions import total
from services.ledger.handlers.replaying import rebuild
from services.tools.adapters.kv import BucketMemory
from shared.bus.connect import ApiError, Bus, open_bus
from shared.bus.consume import Consuming
from shared.bus.log import RunLog
from shared.bus.service import running
from shared.client import Millrace
from shared.contracts.base import SessionRef
from shared.contracts.dead import Wanted
from shared.contracts.facts import Deleted, Inferred, ToolDone
from shared.contracts.ledger import UsageQuery
from shared.contracts.log import task_id_of
from shared.contracts.schedules import Schedule
from shared.contracts.tasks import TaskSubmitted, child_of
from shared.contracts.work import RunTool
from shared.errors import Permanent, Transient
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import LOG, Loop, running_loop
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
MARK, OTHER = "zebra7419", "walrus2208"
REF = SessionRef("default", "s1")


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    (tmp_path / "boss.yaml").write_text('agents: {helper: "Does it."}\ntools: [shout]')
    async with running_loop(nats_server, tmp_path, bus) as loop:
        yield loop


@asynccontextmanager
async def ledger(server: NatsServer, path: Path) -> AsyncIterator[SqlStore]:
    store = SqlStore(f"sqlite+aiosqlite:///{path / 'ledger.db'}")
    await store.open()
    async with (
        recording(store, LOG) as recorder,
        open_bus(server.address(), "ledger", LOG) as bus,
        running(bus, Consuming(bus, project(recorder), 64)),
    ):
        yield store
    await store.close()


async def everything(bus: Bus) -> list[tuple[str, bytes]]:
    """Every message of every stream, bucket and object store: its stream, and all its bytes."""
    found: list[tuple[str, bytes]] = []
    for name in (await bus.api("STREAM.NAMES"))["streams"]:
        state = (await bus.api(f"STREAM.INFO.{name}"))["state"]
        sequence, left = state["first_seq"], state["messages"]
        while left:
            query = {"seq": sequence, "next_by_subj": ">"}
            try:
                message = (await bus.api(f"STREAM.MSG.GET.{name}", query))["message"]
            except ApiError:
                break  # erased meanwhile
            parts = (message.get("data", ""), message.get("hdrs", ""))
            body = b"\n".join(base64.b64decode(part) for part in parts)
            found.append((name, message["subject"].encode() + b"\n" + body))
            sequence, left = message["seq"] + 1, left - 1
    return found


async def mentions(bus: Bus, text: str) -> set[str]:
    return {stream for stream, body in await everything(bus) if text.encode() in body}


def rows(path: Path, text: str) -> list[str]:
    with sqlite3.connect(path / "ledger.db") as connection:
        dump = [line for line in connection.iterdump() if text in line]
    connection.close()
    return dump


async def talk(loop: Loop, bus: Bus, session: str, mark: str) -> None:
    """A session that has left traces wherever one can."""

    async def answer(_work: RunTool) -> str:
        return f"{mark}-result"

    loop.run_call = answer
    for order in (f"say {mark} {mark}", "call shout"):
        task = await loop.client.submit("helper", order, session=session, metadata={"x": mark})
        await task.result(40)
    ack = await bus.publish(f"tasks.default.helper.{session}", f"{{{mark}".encode())
    await loop.client.task(task_id_of(ack.seq, {}), session).result(40)
    await BucketMemory(bus).put(SessionRef("default", session), "likes", mark)
    dead = loop.client.dead()
    await until(lambda: letters(loop.client, session))
    [filed] = (await dead.list(Wanted(session=session))).letters
    await dead.retry(filed.id, by=mark)


async def billed(store: SqlStore, calls: int) -> bool:
    """Whether the ledger has come so far."""
    return total(await store.usage(UsageQuery(tenant="default"))).calls == calls


async def letters(client: Millrace, session: str) -> bool:
    return bool((await client.dead().list(Wanted(session=session))).letters)


async def test_nothing_of_a_deleted_session_is_left_anywhere(
    loop: Loop, bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    await loop.all()
    async with ledger(nats_server, tmp_path) as store:
        await talk(loop, bus, "s1", MARK)
        await talk(loop, bus, "s2", OTHER)
        before = {"RUNS", "TOKENS", "DEAD", "KV_memory"}
        assert await mentions(bus, MARK) == await mentions(bus, OTHER) == before
        await until(lambda: billed(store, 6))
        assert rows(tmp_path, MARK)
        assert rows(tmp_path, OTHER)
        used = total(await store.usage(UsageQuery(tenant="default")))
        reply = await loop.client.session("s1").delete(by="ada")
        assert reply.complete
        assert await mentions(bus, MARK) == set()
        assert rows(tmp_path, MARK) == []
        assert await mentions(bus, OTHER) == before
        assert rows(tmp_path, OTHER)
        assert total(await store.usage(UsageQuery(tenant="default"))) == used
        await rebuild(store, BusLog(bus))
        assert rows(tmp_path, MARK) == []
        assert total(await store.usage(UsageQuery(tenant="default"))) == used
        [fact] = [stored.fact for stored in await loop.client.session("s1").history()]
        assert isinstance(fact, Deleted)
        assert (fact.by, sum(line.calls for line in fact.usage)) == ("ada", 3)
    assert not in_files(tmp_path, "ledger.db*", MARK), "SQLite overwrites what it deletes"
    assert in_files(nats_server.folder, "*.blk", OTHER)
    left = in_files(nats_server.folder, "*.blk", MARK)
    assert {path.parts[-3] for path in left} <= {"KV_memory"}, "and so does the server"


def in_files(folder: Path, pattern: str, mark: str) -> list[Path]:
    return [path for path in folder.rglob(pattern) if mark.encode() in path.read_bytes()]


async def test_a_running_task_is_a_reason_to_refuse_unless_forced(loop: Loop, bus: Bus) -> None:
    loop.seconds_per_token = 0.05
    await loop.all()
    running = await loop.client.submit("helper", "say " + MARK * 200, session="s1")
    queued = await loop.client.submit("helper", "say " + MARK, session="s1")
    session = loop.client.session("s1")
    await until(lambda: spoken(loop))
    with pytest.raises(Permanent) as busy:
        await session.delete()
    assert (busy.value.code, busy.value.field) == ("session_busy", "session")
    assert running.id in busy.value.detail
    ends = asyncio.gather(running.result(40), queued.result(40))
    await asyncio.sleep(0)
    await session.delete(force=True)
    assert [done.status for done in await ends] == ["cancelled", "cancelled"]
    assert await mentions(bus, MARK) == set()
    assert await mentions(bus, running.id) == set()


async def spoken(loop: Loop) -> bool:
    state = (await loop.client.bus.api("STREAM.INFO.TOKENS"))["state"]
    return bool(state["messages"])


async def test_what_a_tool_says_after_the_deletion_is_erased_too(
    loop: Loop, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()

    async def slow(_work: RunTool) -> str:
        await release.wait()
        return f"{MARK}-late"

    loop.run_call = slow
    monkeypatch.setattr("services.sessions.adapters.deletion.DRAINING", 0.2)
    monkeypatch.setattr("services.sessions.adapters.deletion.ERASING", 0.2)
    await loop.all()
    await loop.client.submit("helper", "call shout", session="s1")
    await until(lambda: loop.calls)
    reply = await loop.client.session("s1").delete(force=True)
    assert not reply.complete, "a tool is at it"
    release.set()
    await until(lambda: told(bus))
    await until(lambda: gone(bus))
    await asyncio.sleep(0.2)
    assert [one.kind for one in await RunLog(bus).read(REF)] == ["deleted"]


async def told(bus: Bus) -> bool:
    """Whether the tool's fact was stored: the sequence tells, also once it is gone."""
    state = (await bus.api("STREAM.INFO.RUNS"))["state"]
    deleted = [one.seq for one in await RunLog(bus).read(REF) if one.kind == "deleted"]
    return bool(state["last_seq"] > min(deleted))


async def gone(bus: Bus) -> bool:
    return await mentions(bus, MARK) == set()


async def test_a_deleted_session_starts_empty(loop: Loop) -> None:
    """Loop and worker had it in memory: the second life must not remember the first."""
    await loop.all()
    for order in (f"say {MARK}", "tools 2"):
        await (await loop.client.submit("helper", order, session="s1")).result(40)
    session = loop.client.session("s1")
    tokens = await prompt_of(loop, "say again")
    await session.delete()
    assert await prompt_of(loop, "say again") < tokens
    fresh = await loop.client.submit("helper", "say again", session="s2")
    assert await input_of(fresh.id, loop, "s2") == await prompt_of(loop, "say again", "s3")
    await session.delete()
    assert await prompt_of(loop, "say again") == await prompt_of(loop, "say again", "s4")
    facts = [one.kind for one in await session.history()]
    assert facts == ["deleted", "task", "accepted", "inferred", "done"]


async def prompt_of(loop: Loop, order: str, session: str = "s1") -> int:
    """How many tokens the model was given for an order."""
    task = await loop.client.submit("helper", order, session=session)
    return await input_of(task.id, loop, session)


async def input_of(task: str, loop: Loop, session: str) -> int:
    await loop.client.task(task, session).result(40)
    facts = [one.fact for one in await loop.client.session(session).history()]
    return next(f.usage.input for f in facts if isinstance(f, Inferred) and f.task == task)


async def test_a_step_of_the_same_name_in_the_next_life_is_answered_anew(
    loop: Loop, bus: Bus
) -> None:
    await loop.all()
    task = await loop.client.submit("helper", "say first", session="s1", task="mine")
    assert (await task.result(40)).output == "first"
    await loop.client.session("s1").delete()
    with pytest.raises(Permanent) as used:
        await loop.client.submit("helper", "say second", session="s1", task="mine")
    assert used.value.code == "task_id_used"  # the broker takes it for a repetition, for minutes


async def test_a_session_that_does_not_exist(loop: Loop) -> None:
    await loop.start("sessions")
    with pytest.raises(Permanent) as unknown:
        await loop.client.session("never").delete()
    assert unknown.value.code == "unknown_session"


@pytest.mark.parametrize("name", ["_direct", "_doctor"])
async def test_what_is_ours_cannot_be_deleted(loop: Loop, name: str) -> None:
    """The usage of stateless completions is kept under such a name."""
    await loop.start("sessions")
    with pytest.raises(Permanent) as refused:
        await loop.client.session(name).delete()
    assert (refused.value.code, refused.value.field) == ("invalid_name", "session")


async def test_deleting_twice_answers_as_the_first_time(loop: Loop) -> None:
    await loop.all()
    await (await loop.client.submit("helper", "say x", session="s1")).result(40)
    session = loop.client.session("s1")
    first = await session.delete()
    assert (await session.delete()).sequence == first.sequence


async def test_without_a_sessions_service_nothing_is_deleted(bus: Bus) -> None:
    client = Millrace(bus)
    await client.submit("helper", "say x", session="s1")
    with pytest.raises(Transient) as away:
        await client.session("s1").delete()
    assert away.value.code == "no_responders"
    assert len(await client.session("s1").history()) == 1


async def test_a_deletion_that_was_cut_off_is_finished_by_the_next_process(
    loop: Loop, bus: Bus
) -> None:
    """The fact alone is enough: whoever wrote it may have died right after."""
    await loop.all()
    await (await loop.client.submit("helper", f"say {MARK}", session="s1")).result(40)
    await loop.crash("sessions")
    history = await RunLog(bus).read(REF)
    await RunLog(bus).append(REF, Deleted(upto=history[-1].seq))
    await loop.start("sessions")
    await until(lambda: gone(bus))


async def test_another_tenant_cannot_delete_it(loop: Loop, bus: Bus) -> None:
    await loop.all()
    await (await loop.client.submit("helper", f"say {MARK}", session="s1")).result(40)
    with pytest.raises(Permanent) as unknown:
        await loop.client.for_tenant("other").session("s1").delete()
    assert unknown.value.code == "unknown_session"
    assert await mentions(bus, MARK)


async def test_a_task_that_slips_in_while_it_is_deleted_survives(loop: Loop, bus: Bus) -> None:
    """A deletion covers what its writer had seen, and not what was stored meanwhile."""
    await loop.all()
    await (await loop.client.submit("helper", f"say {MARK}", session="s1")).result(40)
    upto = (await RunLog(bus).read(REF))[-1].seq
    slipped = await loop.client.submit("helper", "tools 1", session="s1")
    await RunLog(bus).append(REF, Deleted(upto=upto))
    assert (await slipped.result(40)).output == "got shout0"
    await until(lambda: gone(bus))
    facts = [one.fact for one in await slipped.facts()]
    assert any(isinstance(fact, ToolDone) for fact in facts)


async def test_erasing_late_spares_what_the_next_life_says(loop: Loop, bus: Bus) -> None:
    """The eraser was away while the session was used again, and a result of before came late."""
    await loop.all()
    old = await loop.client.submit("helper", f"say {MARK}", session="s1")
    await old.result(40)
    notes, log = BucketMemory(bus), RunLog(bus)
    await notes.put(REF, "likes", MARK)
    await loop.crash("sessions")
    await log.append(REF, Deleted(upto=(await log.read(REF))[-1].seq))
    late = ToolDone(task=old.id, step=7, call="c", name="n", result=MARK)
    new = await loop.client.submit("helper", f"say {OTHER} {OTHER}", session="s1")
    await log.append(REF, late)
    await notes.put(REF, "hates", OTHER)
    await loop.start("sessions")
    assert (await new.result(40)).output == f"{OTHER} {OTHER}"
    await until(lambda: gone(bus))
    assert await mentions(bus, OTHER) == {"RUNS", "TOKENS", "KV_memory"}
    kinds = [one.kind for one in await log.read(REF)]
    assert kinds == ["deleted", "task", "accepted", "inferred", "done"]


async def test_a_session_that_others_begin_in_is_not_deleted(loop: Loop, bus: Bus) -> None:
    await loop.all()
    task = await loop.client.submit("helper", f"say {MARK}", session="s1")
    await task.result(40)
    fork = await loop.client.fork("s1", at=f"{task.id}.0", name="f1")
    await loop.client.task(task.id, "f1").result(40)
    session = loop.client.session("s1")
    for force in (False, True):
        with pytest.raises(Permanent) as refused:
            await session.delete(force=force)
        assert (refused.value.code, refused.value.field) == ("has_forks", "session")
        assert "f1" in refused.value.detail
    await fork.delete()
    [gone] = [stored.fact for stored in await fork.history()]
    assert isinstance(gone, Deleted)
    [line] = gone.usage
    assert (line.agent, line.calls) == ("helper", 1), "what it took over was billed to the parent"
    assert len(await session.history()) == 4
    await session.delete()
    assert await mentions(bus, MARK) == set()


async def test_the_agents_that_it_asked_forget_it_too(loop: Loop, bus: Bus) -> None:
    await loop.all()
    task = await loop.client.submit("boss", f"ask helper: say {MARK}", session="s1")
    await task.result(40)
    child, _ = child_of(REF, task.id, 1)
    assert await RunLog(bus).read(child)
    await loop.client.session("s1").delete()
    assert await mentions(bus, MARK) == set()
    for ref in (REF, child):
        assert [one.kind for one in await RunLog(bus).read(ref)] == ["deleted"]


async def test_a_worker_hears_which_prompts_nobody_comes_back_to(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await loop.all()
    heard: list[str] = []
    monkeypatch.setattr(loop.engine(), "forget", heard.append, raising=False)
    task = await loop.client.submit("boss", "ask helper: say x", session="s1")
    await task.result(40)
    child, _ = child_of(REF, task.id, 1)
    await until(lambda: heard == [str(child)])  # that one task was all of it
    await loop.client.session("s1").delete()
    await until(lambda: str(REF) in heard)


async def test_an_agent_that_is_at_it_is_stopped(
    loop: Loop, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()

    async def slow(_work: RunTool) -> str:
        await release.wait()
        return MARK

    loop.run_call = slow
    monkeypatch.setattr("services.sessions.adapters.deletion.DRAINING", 0.2)
    monkeypatch.setattr("services.sessions.adapters.deletion.ERASING", 0.2)
    await loop.all()
    task = await loop.client.submit("boss", "ask helper: call shout", session="s1")
    child, _ = child_of(REF, task.id, 1)
    await until(lambda: loop.calls)
    with pytest.raises(Permanent) as busy:
        await loop.client.session("s1").delete()
    assert busy.value.code == "session_busy"
    await loop.client.session("s1").delete(force=True)
    for ref in (REF, child):
        found = [one.fact for one in await RunLog(bus).read(ref) if one.kind == "deleted"]
        assert found
    release.set()
    await until(lambda: gone(bus))
    for ref in (REF, child):
        await until(lambda ref=ref: only_deleted(bus, ref))


async def only_deleted(bus: Bus, ref: SessionRef) -> bool:
    return {one.kind for one in await RunLog(bus).read(ref)} == {"deleted"}


async def test_schedules_that_name_it_go_and_all_others_stay(loop: Loop, bus: Bus) -> None:
    await loop.all()
    words = TaskSubmitted(input=f"say {MARK}")
    for name, session in (("mine", "s1"), ("theirs", "s2"), ("free", "")):
        every = Schedule(agent="helper", task=words, session=session, every_s=3600)
        await loop.client.schedules.put(name, every)
    await (await loop.client.submit("helper", "say x", session="s1")).result(40)
    session = loop.client.session("s1")
    await session.delete()
    assert [one.name for one in await loop.client.schedules.list()] == ["free", "theirs"]
    again = Schedule(agent="helper", task=words, session="s1", every_s=3600)
    await loop.client.schedules.put("mine", again)
    await session.delete()
    kept = [one.name for one in await loop.client.schedules.list()]
    assert kept == ["free", "mine", "theirs"], "it is of the next life"
