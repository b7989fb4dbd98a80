"""What a trial asks, and what it finds wrong."""

from __future__ import annotations

import pytest

from infra.trial.questions import Question, faults, products, tokens, underway
from shared.contracts.base import SessionRef
from shared.contracts.facts import Done, Inferred, ToolDone, ToolFailed, Usage
from shared.contracts.log import StoredFact
from shared.errors import Failure

ASKED = Question("s", "t", "What is 17 * 23?", "391")
DONE = Done(task="t", status="completed", output="17 * 23 = 391.")
STEP = ToolDone(task="t", step=2, call="c", name="calculator", result="391")
BUSY = ToolFailed(
    task="t",
    step=2,
    call="c",
    name="calculator",
    error=Failure(code="busy", family="transient"),
    retry=True,
)


def inferred(step: int, used: int) -> Inferred:
    usage = Usage(input=used)
    return Inferred(task="t", step=step, content="", usage=usage, model="m", worker="w")


def log(*facts: object) -> list[StoredFact]:
    ref = SessionRef("default", "s")
    return [
        StoredFact(n, 0.0, ref, "x", "", getattr(fact, "task", ""), fact)  # type: ignore[arg-type]
        for n, fact in enumerate(facts, 1)
    ]


def test_no_two_questions_are_alike_and_each_knows_its_answer() -> None:
    found = products("r", 8, 40, 5)
    assert len({one.text for one in found}) == len({one.task for one in found}) == 40
    assert len({one.session for one in found}) == 5
    for one in found:
        a, b = (int(word.strip("?")) for word in one.text.split() if word.strip("?").isdecimal())
        assert one.answer == str(a * b)


def test_an_answered_question_has_no_fault() -> None:
    assert faults(ASKED, log(BUSY, STEP, DONE)) == []


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ((), "ended 0 times"),
        ((DONE, DONE), "ended 2 times"),
        ((Done(task="t", status="failed", output="391"),), "is failed"),
        ((Done(task="t", status="completed", output="3910"),), "lacks 391"),
        ((STEP, STEP, DONE), "two results of step 2"),
    ],
)
def test_what_is_lost_or_done_twice_is_told(facts: tuple[object, ...], said: str) -> None:
    assert [said in one for one in faults(ASKED, log(*facts))] == [True]


def test_another_tasks_end_is_not_taken_for_it() -> None:
    other = Done(task="u", status="completed", output="391")
    assert faults(ASKED, log(other)) == ["t ended 0 times"]


def test_the_first_result_of_a_step_is_what_is_billed() -> None:
    assert tokens(log(inferred(1, 5), inferred(1, 7), inferred(3, 10), STEP)) == 15


def test_what_had_ended_at_a_place_of_the_log_was_not_under_way() -> None:
    other = Question("s", "u", "?", "!")
    facts = log(STEP, DONE, Done(task="u", status="completed"))
    assert [underway((ASKED, other), facts, last) for last in (1, 2, 3)] == [2, 1, 0]
