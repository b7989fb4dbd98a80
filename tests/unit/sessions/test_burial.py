"""What a session is told of a death: what it waits for, once."""

from __future__ import annotations

import pytest

from services.sessions.core.burial import Loss, missing_fact
from shared.contracts.base import Message
from shared.contracts.facts import (
    Done,
    InferFailed,
    Inferred,
    ToolCall,
    ToolDone,
    ToolFailed,
)
from shared.errors import Failure
from tests.fakes.ledger_log import REF, Recorder

ERROR = Failure(code="tries_exhausted", family="broken")
CALLS = tuple(ToolCall(id=f"c{n}", name=f"tool{n}", arguments="{}") for n in (1, 2))


def told(*facts: Message, step: int | None = 0, attempt: int = 1, task: str = "t1") -> object:
    log = Recorder()
    log.submit("t1", 0.0)
    log.accept("t1", 0.1)
    for fact in facts:
        log.add(fact, 1.0)
    return missing_fact(Loss(REF, task, ERROR, step, attempt), log.facts)


def test_a_model_call_fails() -> None:
    assert told(attempt=3) == InferFailed(task="t1", step=0, error=ERROR, attempt=3)


def test_a_tool_call_fails_under_its_own_name() -> None:
    asked = Inferred(task="t1", step=0, tool_calls=CALLS)
    failed = told(asked, step=2)
    assert isinstance(failed, ToolFailed)
    assert (failed.step, failed.call, failed.name, failed.error) == (2, "c2", "tool2", ERROR)


@pytest.mark.parametrize(
    "fact",
    [
        Inferred(task="t1", step=0),
        InferFailed(task="t1", step=0, error=ERROR),
        InferFailed(task="t1", step=0, error=ERROR, attempt=2),
        ToolDone(task="t1", step=0, call="c", name="n", result=""),
        Done(task="t1", status="cancelled"),
    ],
)
def test_what_is_known_is_not_said_again(fact: Message) -> None:
    assert told(fact) is None


def test_an_earlier_attempt_does_not_speak_for_this_one() -> None:
    assert told(InferFailed(task="t1", step=0, error=ERROR), attempt=2) is not None


def test_a_task_without_a_step_ends() -> None:
    assert told(step=None) == Done(task="t1", status="failed", error=ERROR)


def test_a_task_that_never_began_is_left_alone() -> None:
    assert told(task="t2") is None
