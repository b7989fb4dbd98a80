"""Parked steps, failed tries and what people said, from the facts of a task."""

from __future__ import annotations

import pytest

from shared.contracts import facts as f
from shared.contracts.agents import LimitsPatch
from shared.contracts.log import StoredFact
from shared.errors import Failure, Permanent
from shared.waiting import notes, the_step, tries, waiting
from tests.fakes.ledger_log import Recorder

BUSY = Failure(code="busy", family="transient")
HERE = {"task": "t", "step": 1, "call": "c", "name": "delete"}
PARKED = f.Parked(task="t", step=1, reason="approval", detail="delete asks first")


def log(*facts: f.Fact) -> list[StoredFact]:
    recorder = Recorder()
    for at, fact in enumerate(facts):
        recorder.add(fact, float(at))
    return recorder.facts


def steps(*facts: f.Fact) -> list[int]:
    return [stored.fact.step for stored in waiting(log(*facts)) if hasattr(stored.fact, "step")]


def test_a_parked_step_waits() -> None:
    other = f.Parked(task="t", step=0, reason="budget")
    assert steps(PARKED, other) == [0, 1]
    assert steps(PARKED, PARKED) == [1]


@pytest.mark.parametrize(
    "answer",
    [
        f.Approved(task="t", step=1),
        f.Rejected(task="t", step=1),
        f.ToolDone(**HERE, result="ok"),
        f.ToolFailed(**HERE, error=BUSY),
        f.TimerFired(task="t", timer="approval", step=1),
        f.Done(task="t", status="cancelled"),
    ],
)
def test_an_answer_ends_the_wait(answer: f.Fact) -> None:
    assert steps(PARKED, answer) == []
    assert steps(answer, PARKED) == [1]


@pytest.mark.parametrize(
    "other",
    [
        f.Approved(task="t", step=2),
        f.ToolFailed(**HERE, error=BUSY, retry=True),
        f.TimerFired(task="t", timer="deadline"),
        f.Steered(task="t", id="s", text="hurry"),
    ],
)
def test_what_is_no_answer_does_not(other: f.Fact) -> None:
    assert steps(PARKED, other) == [1]


def test_the_only_step_needs_no_name() -> None:
    assert the_step(log(PARKED)) == 1
    with pytest.raises(Permanent, match="not_parked"):
        the_step(log(PARKED, f.Approved(task="t", step=1)))
    with pytest.raises(Permanent, match=r"which: 1, 2") as refused:
        the_step(log(PARKED, f.Parked(task="t", step=2, reason="approval")))
    assert (refused.value.code, refused.value.field) == ("step_needed", "step")


def test_no_step_of_a_task_that_nothing_is_known_of_waits() -> None:
    with pytest.raises(Permanent) as refused:
        the_step(log())
    assert (refused.value.code, refused.value.field) == ("unknown_task", "task")


def test_failed_tries_stand_before_the_result() -> None:
    found = tries(
        log(
            f.InferFailed(task="t", step=0, error=BUSY),
            f.InferFailed(task="t", step=0, error=BUSY, attempt=2),
            f.Inferred(task="t", step=0, attempt=3),
            f.InferFailed(task="t", step=0, error=BUSY, attempt=2),
            f.ToolFailed(**HERE, error=BUSY, retry=True),
            f.ToolFailed(**HERE, error=BUSY, attempt=2),
        )
    )
    assert {step: [one.attempt for one in some] for step, some in found.items()} == {
        0: [1, 2],
        1: [1],
    }


def test_the_conversation_about_a_task() -> None:
    found = notes(
        log(
            PARKED,
            f.Approved(task="t", step=1, by="kim", note="fine", arguments="{}"),
            f.Approved(task="t", step=4, limits=LimitsPatch(max_steps=9)),
            f.Rejected(task="t", step=2, by="kim", note="no"),
            f.Steered(task="t", id="s", text="in German", by="lee"),
            f.Cancelled(task="t", by="lee", reason="enough"),
        )
    )
    assert [(note.kind, note.step, note.text, note.by) for note in found] == [
        ("parked", 1, "approval: delete asks first", ""),
        ("approved", 1, "with other arguments, fine", "kim"),
        ("approved", 4, "with new limits", ""),
        ("rejected", 2, "no", "kim"),
        ("steered", None, "in German", "lee"),
        ("cancelled", None, "enough", "lee"),
    ]
