"""The chaos suite's own checks find what they are there to find."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.contracts import facts as f
from shared.contracts.agents import AgentSpec, Limits, Sampling
from shared.contracts.base import SessionRef
from shared.contracts.log import StoredFact
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Failure
from tests.chaos import invariants
from tests.chaos.answers import expected_results
from tests.chaos.evidence import Bill, Evidence, Fault, Reading, Seen, Submission
from tests.chaos.folding import is_balanced
from tests.chaos.model import Order, answer, write_order
from tests.chaos.records import Effect, Execution

REF = SessionRef("default", "s")
ORDER = Order("mk-a-0", (("echo",),), 4)
USAGE = f.Usage(input=3, output=5)
CALL = f.ToolCall(id="c1", name="echo", arguments="{}")
OUTPUT = " | ".join(expected_results(REF, ORDER))


def stored(seq: int, kind: str, fact: f.Fact, task: str = "t") -> StoredFact:
    return StoredFact(seq, float(seq), REF, kind, "", task, fact)


def inferred(step: int, text: str, *calls: f.ToolCall, attempt: int = 1) -> f.Inferred:
    return f.Inferred(
        task="t", step=step, content=text, cuts=(2,), tool_calls=calls, usage=USAGE, price=7,
        attempt=attempt,
    )  # fmt: skip


def log() -> list[StoredFact]:
    accepted = f.Accepted(
        task="t", agent=AgentSpec(name="chaos"), revision=1, limits=Limits(), sampling=Sampling(),
        deadline=0.0, source=1,
    )  # fmt: skip
    tool = f.ToolDone(task="t", step=1, call="c1", name="effect", result=OUTPUT)
    return [
        stored(1, "task", TaskSubmitted(input=write_order(ORDER))),
        stored(2, "accepted", accepted),
        stored(3, "inferred", inferred(0, "abcd", CALL)),
        stored(4, "tool_done", tool),
        stored(5, "inferred", inferred(2, OUTPUT)),
        stored(6, "done", f.Done(task="t", status="completed", output=OUTPUT)),
    ]


def reading(*extra: Seen) -> Reading:
    events = [
        Seen("1", "task", 1),
        Seen("2", "accepted", 2),
        Seen("2:t.0.1.0", "delta", 2, 0, 1, 0, "ab"),
        Seen("2:t.0.1.1", "delta", 2, 0, 1, 1, "cd"),
        Seen("3", "inferred", 3),
        Seen("4", "tool_done", 4),
        Seen("4:t.2.1.0", "delta", 4, 2, 1, 0, OUTPUT),
        Seen("5", "inferred", 5),
        *extra,
        Seen("6", "done", 6),
    ]
    return Reading(submission(), "feed", events, 1, ended=True)


def submission() -> Submission:
    return Submission(REF, "t", ORDER, acknowledged=True)


def evidence() -> Evidence:
    return Evidence(
        submissions=[submission()],
        facts=log(),
        faults=[],
        executions=[Execution("infer", "default", "s", "t", 0, "w", 2.5, 2.6)],
        effects=[Effect("default", "s", "t", 1)],
        readings=[reading()],
        ledger=invariants.bills(log()),
        billed=invariants.bills(log()),
    )


def without(*kinds: str) -> Evidence:
    good = evidence()
    good.facts = [one for one in good.facts if one.kind not in kinds]
    return good


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    good = evidence()
    assert invariants.problems(good) == []
    assert invariants.lost(good) + invariants.stuck(good) == []
    assert invariants.repeated_executions(good) + invariants.repeated_effects(good) == []


def test_an_acknowledged_task_that_the_log_does_not_hold_is_lost() -> None:
    assert len(invariants.lost(without("task"))) == 1


def test_a_task_without_an_end_is_stuck() -> None:
    assert len(invariants.stuck(without("done"))) == 1


def test_two_ends_are_found() -> None:
    bad = evidence()
    bad.facts.append(stored(7, "done", f.Done(task="t", status="completed", output=OUTPUT)))
    assert any("2 ends" in one for one in invariants.problems(bad))


@pytest.mark.parametrize(
    ("done", "found"),
    [
        (f.Done(task="t", status="completed", output="nonsense"), "wrong answer"),
        (f.Done(task="t", status="cancelled"), "cancelled by nobody"),
        (f.Done(task="t", status="failed", error=Failure(code="")), "without a code"),
    ],
)
def test_an_undeserved_end_is_found(done: f.Done, found: str) -> None:
    bad = without("done")
    bad.facts.append(stored(6, "done", done))
    assert any(found in one for one in invariants.problems(bad))


def test_an_execution_behind_its_result_is_a_repetition_and_one_before_it_is_not() -> None:
    bad = evidence()
    early, late = (replace_asked(bad.executions[0], at) for at in (2.9, 3.1))
    bad.executions += [early, late]
    assert len(invariants.repeated_executions(bad)) == 1
    assert invariants.cut_off(bad) == 1


def replace_asked(one: Execution, at: float) -> Execution:
    return Execution(one.kind, one.tenant, one.session, one.task, one.step, "w2", at, at)


def test_a_second_side_effect_is_found_unless_a_person_asked_for_it() -> None:
    bad = evidence()
    bad.effects *= 2
    assert len(invariants.repeated_effects(bad)) == 1
    bad.reruns[bad.effects[0].place] += 1
    assert invariants.repeated_effects(bad) == []


def test_a_side_effect_that_never_happened_is_found() -> None:
    bad = evidence()
    bad.effects = []
    assert any("never happened" in one for one in invariants.problems(bad))


def test_a_second_result_is_found_unless_the_suite_put_it_there() -> None:
    bad = evidence()
    bad.facts.insert(5, stored(7, "tool_done", bad.facts[3].fact))  # type: ignore[arg-type]
    assert any("2 results" in one for one in invariants.problems(bad))
    bad.forged = frozenset({7})
    assert not any("2 results" in one for one in invariants.problems(bad))


def test_a_model_that_was_shown_something_unbalanced_is_found() -> None:
    bad = evidence()
    bad.executions.append(Execution("infer", "default", "s", "t", 2, "w", 4.5, 4.6, balanced=False))
    assert any("unbalanced" in one for one in invariants.problems(bad))


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "tool", "tool_call_id": "a"}],
        [{"role": "assistant", "tool_calls": [{"id": "a"}]}, {"role": "user"}],
        [{"role": "assistant", "tool_calls": [{"id": "a"}]}],
        [{"role": "assistant", "tool_calls": [{"id": "a"}]}, {"role": "tool", "tool_call_id": "b"}],
    ],
)
def test_what_is_not_balanced(messages: list[dict[str, object]]) -> None:
    assert not is_balanced(messages)


def test_the_log_is_summed_up_by_all_that_usage_is_grouped_by() -> None:
    sums = invariants.bills(log())
    assert {account[1] for account in sums} == set(invariants.GROUPINGS)
    assert sums["default", "session", "s"] == Bill(USAGE + USAGE, 14, 2)
    assert sums["default", "day", "1970-01-01"] == Bill(USAGE + USAGE, 14, 2)


@pytest.mark.parametrize("grouping", invariants.GROUPINGS)
def test_usage_that_differs_from_the_log_is_found(grouping: str) -> None:
    for said in (Bill(USAGE, 7, 1), Bill(USAGE + USAGE, 14, 1), None):
        bad = evidence()
        (account,) = (one for one in bad.ledger if one[1] == grouping)
        if said is None:
            del bad.ledger[account]
        else:
            bad.ledger[account] = said
        assert any("usage of" in one for one in invariants.problems(bad))


def test_usage_that_nobody_had_is_found() -> None:
    bad = evidence()
    bad.ledger["default", "agent", "ghost"] = Bill(USAGE, 7, 1)
    assert any("ghost" in one for one in invariants.problems(bad))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda events: events.pop(0), "without [1]"),
        (lambda events: events.insert(2, events[1]), "saw twice"),
        (lambda events: events.insert(4, events[3]), "piece 1 behind 2"),
        (lambda events: events.pop(3), "and the log"),
    ],
)
def test_a_reader_that_missed_or_repeated_something_is_found(change: object, found: str) -> None:
    bad = evidence()
    change(bad.readings[0].events)  # type: ignore[operator]
    assert any(found in one for one in invariants.problems(bad))


def test_a_reader_that_never_saw_the_end_is_found() -> None:
    bad = evidence()
    bad.readings[0].ended = False
    assert any("never saw the end" in one for one in invariants.problems(bad))


def test_a_superseded_attempt_is_no_fault() -> None:
    good = evidence()
    events = good.readings[0].events
    events.insert(6, Seen("4:t.2.0.0", "delta", 4, 2, 0, 0, "cut off"))
    assert invariants.problems(good) == []


def test_text_of_another_session_is_found() -> None:
    bad = evidence()
    other = Submission(SessionRef("acme", "s"), "t", replace_mark("mk-b-1"), acknowledged=False)
    bad.submissions.append(other)
    leaked = stored(7, "inferred", inferred(9, "mk-b-1"))
    bad.facts.insert(5, replace(leaked, time=5.5))
    assert any("mk-b-1" in one for one in invariants.problems(bad))


def replace_mark(mark: str) -> Order:
    return Order(mark, ORDER.rounds, ORDER.words)


def test_what_comes_behind_the_end_is_no_readers_business() -> None:
    good = evidence()
    good.facts.append(stored(7, "inferred", inferred(4, "too late")))
    good.ledger = good.billed = invariants.bills(good.facts)
    assert invariants.problems(good) == []


def test_what_a_person_answered_is_not_executed_again() -> None:
    bad = without("tool_done")
    said = f.Approved(task="t", step=1, by="person", result=OUTPUT)
    bad.facts.insert(3, stored(4, "approved", said))
    bad.executions.append(Execution("tool", "default", "s", "t", 1, "x", 4.5, 4.5))
    assert len(invariants.repeated_executions(bad)) == 1


def test_a_stall_is_the_time_from_a_fault_to_the_next_fact_of_an_open_task() -> None:
    one = evidence()
    one.faults = [Fault("kill", "w", at) for at in (0.5, 3.25, 9.0)]
    assert invariants.stalls(one) == [0.75]


def test_the_model_asks_round_by_round_and_then_answers() -> None:
    prompt = f"system: x\nuser: {write_order(ORDER)}\n"
    assert '"name": "echo"' in answer(prompt, "n1")
    final = answer(f"{prompt}assistant: [n1] round 0\ntool: r1\n", "n2")
    assert final.startswith("[n2] r1")
