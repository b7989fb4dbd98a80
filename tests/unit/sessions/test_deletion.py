"""What a log says about deleting its session."""

from __future__ import annotations

from services.sessions.core.deletion import (
    children_of,
    history_after,
    newest_deletion,
    open_tasks,
    strays,
    tasks_since,
    usage_of,
)
from services.sessions.core.evolve import evolve
from services.sessions.core.state import SessionState
from shared.contracts.facts import Deleted, Done, Inferred, ToolCall, ToolDone
from shared.contracts.tasks import child_of
from shared.transcript import Transcript
from tests.fakes.ledger_log import REF, Recorder, arithmetic, billed


def lived(*tasks: str) -> Recorder:
    log = Recorder()
    for task in tasks:
        arithmetic(log, task)
    return log


def test_a_task_is_open_until_its_end() -> None:
    log = lived("t1")
    log.submit("t2", 1.0)
    assert open_tasks(log.facts) == ["t2"]
    log.add(Done(task="t2", status="failed"), 2.0)
    assert open_tasks(log.facts) == []


def test_usage_is_that_of_the_log_and_of_the_deletions_in_it() -> None:
    log = lived("t1", "t2")
    lines = usage_of(log.facts)
    assert [(line.agent, line.model, line.calls) for line in lines] == [("assistant", "nano", 4)]
    used, price = billed(log.facts, "default")
    assert (lines[0].usage, lines[0].price) == (used, price)
    log = Recorder()
    log.add(Deleted(upto=0, usage=lines), 1.0)
    arithmetic(log, "t3", 2.0)
    [again] = usage_of(log.facts)
    assert (again.calls, again.price) == (6, price + 3_000)
    assert usage_of([]) == ()


def test_what_came_late_is_told_from_the_next_life() -> None:
    log = lived("t1")
    upto = log.facts[-1].seq
    log.add(Deleted(upto=upto), 1.0)
    late = log.add(ToolDone(task="t1", step=9, call="c", name="n", result="late"), 1.1)
    arithmetic(log, "t2", 2.0)
    assert strays(log.facts, upto) == [late]
    assert tasks_since(log.facts, upto) == {"t2"}


def test_the_deletion_that_covers_most_counts() -> None:
    log = lived("t1")
    assert newest_deletion(log.facts) is None
    log.add(Deleted(upto=3), 1.0)
    log.add(Deleted(upto=7), 1.1)
    mark = newest_deletion(log.facts)
    assert mark is not None
    assert (mark.upto, mark.seq) == (7, log.facts[-1].seq)
    arithmetic(log, "t2", 2.0)
    assert {one.task for one in history_after(log.facts, mark)} == {"t2"}


def test_neither_loop_nor_transcript_remembers_what_was_deleted() -> None:
    log = lived("t1")
    upto = log.facts[-1].seq
    log.submit("slipped", 1.0)  # stored before the deletion, and not covered by it
    log.add(Deleted(upto=upto), 1.1)
    state, transcript = SessionState(ref=REF), Transcript()
    for stored in log.facts:
        state = evolve(state, stored)
    transcript.fold(log.facts)
    assert [queued.task for queued in state.queue] == ["slipped"]
    assert "t1" not in state.ended
    assert transcript.messages() == []
    log.accept("slipped", 1.2)
    transcript.fold(log.facts)
    assert [message["role"] for message in transcript.messages()] == ["system", "user"]


def test_a_cold_start_on_what_was_purged_is_the_warm_state() -> None:
    log = lived("t1")
    upto = log.facts[-1].seq
    log.add(Deleted(upto=upto), 1.0)
    arithmetic(log, "t2", 2.0)
    warm, cold = Transcript().fold(log.facts), Transcript().fold(log.facts[upto:])
    assert warm.messages() == cold.messages()
    states = [SessionState(ref=REF), SessionState(ref=REF)]
    for number, facts in enumerate((log.facts, log.facts[upto:])):
        for stored in facts:
            states[number] = evolve(states[number], stored)
    assert states[0] == states[1]


def test_who_was_behind_finds_nothing_running_that_was_deleted() -> None:
    """The end of a task may be erased before everybody has seen it."""
    log = lived("t1")
    log.submit("t2", 1.0)
    state = SessionState(ref=REF)
    for stored in log.facts[:-2]:
        state = evolve(state, stored)
    assert state.running
    state = evolve(state, log.facts[-1])
    assert (len(state.queue), state.running is None) == (1, False)
    deleted = log.add(Deleted(upto=log.facts[-2].seq), 2.0)
    slipped = evolve(state, deleted)
    assert ([one.task for one in slipped.queue], slipped.running) == (["t2"], None)
    assert (slipped.ended, slipped.latest) == (frozenset(), None)


def test_a_task_that_began_behind_it_goes_on() -> None:
    log = lived("t1")
    upto = log.facts[-1].seq
    begun = lived("t1", "t2").facts[: upto + 2]
    log.facts = list(begun)
    log.add(Deleted(upto=upto), 2.0)
    state = SessionState(ref=REF)
    for stored in log.facts:
        state = evolve(state, stored)
    assert state.running
    assert state.running.task == "t2"


def test_numbers_that_a_deletion_carries_are_not_counted_again() -> None:
    log = lived("t1")
    lines = usage_of(log.facts)
    log.add(Deleted(upto=log.facts[-1].seq, usage=lines), 1.0)
    assert usage_of(log.facts) == lines, "also while the facts are there still"


def test_the_agents_that_were_asked_have_sessions_of_their_own() -> None:
    log = Recorder()
    calls = tuple(
        ToolCall(id=str(n), name=name, arguments="{}")
        for n, name in enumerate(("ask_helper", "add", "ask_other"))
    )
    log.add(Inferred(task="t1", step=2, tool_calls=calls), 1.0)
    assert children_of(REF, log.facts) == [child_of(REF, "t1", n)[0] for n in (3, 5)]
