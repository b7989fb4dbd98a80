"""What failed for the moment is tried again: when, how often, where, and what comes then."""

from __future__ import annotations

import pytest

from services.sessions.core.progress import backoff
from shared.contracts import facts as f
from shared.contracts.agents import RetryPolicy
from shared.contracts.work import RouteStep, RunTool
from shared.errors import Failure
from tests.unit.sessions.case import ADD, LOOK, Case, ended, ran, said

BUSY = Failure(code="engine_failed", family="transient")
EXHAUSTED = Failure(code="route_exhausted")


def failed(attempt: int = 1, error: Failure = BUSY, step: int = 0) -> f.InferFailed:
    return f.InferFailed(task="t1", step=step, error=error, attempt=attempt)


def busy(step: int, call: f.ToolCall, attempt: int = 1) -> f.ToolFailed:
    return f.ToolFailed(
        task="t1", step=step, call=call.id, name=call.name, error=BUSY, attempt=attempt, retry=True
    )


def fired(step: int, attempt: int) -> f.TimerFired:
    return f.TimerFired(task="t1", timer="retry", step=step, attempt=attempt)


def route(case: Case) -> tuple[int, int, int]:
    (work,) = case.work
    assert isinstance(work, RouteStep)
    return work.step, work.attempt, work.skip


def test_the_wait_doubles_and_is_a_function_of_the_step() -> None:
    policy = RetryPolicy(tries=9, base_s=1.0, max_s=8.0)
    waits = [backoff(policy, "t1.0", tries) for tries in range(1, 7)]
    assert waits == [backoff(policy, "t1.0", tries) for tries in range(1, 7)]
    for wait, whole in zip(waits, (1, 2, 4, 8, 8, 8), strict=True):
        assert whole / 2 <= wait <= whole
    assert backoff(policy, "t1.0", 1) != backoff(policy, "t1.1", 1)


def test_a_model_call_waits_and_is_tried_again() -> None:
    case = Case().running().add(failed())
    assert case.work == []
    (name,) = case.timers.keys() - {"watch"}
    assert name == "retry-0-2"
    assert 0.5 <= case.timers[name] <= 1.0
    assert route(case.add(fired(0, 2))) == (0, 2, 0)


def test_a_wait_that_has_passed_needs_no_timer() -> None:
    assert route(Case().running().add(failed()).wait(1.0)) == (0, 2, 0)


def test_who_says_when_to_come_again_is_obeyed() -> None:
    late = Failure(code="rate_limited", family="transient", retry_after=17.0)
    assert Case().running().add(failed(error=late)).timers["retry-0-2"] == 17.0


def test_after_so_many_tries_the_next_target_is_asked_at_once() -> None:
    case = Case().running().add(failed(1)).wait(9).add(failed(2)).wait(9).add(failed(3))
    assert route(case) == (0, 4, 1)


def test_what_is_broken_is_not_tried_again_on_the_same_target() -> None:
    broken = Failure(code="tries_exhausted", family="broken")
    assert route(Case().running().add(failed(error=broken))) == (0, 2, 1)


def test_when_no_target_is_left_the_last_trouble_is_told() -> None:
    case = Case().running().add(*(failed(n) for n in (1, 2, 3)), failed(4, EXHAUSTED))
    assert ended(case) == ("failed", "engine_failed")


def test_a_permanent_failure_is_not_tried_again() -> None:
    case = Case().running().add(failed(error=Failure(code="context_too_long")))
    assert ended(case) == ("failed", "context_too_long")


@pytest.mark.parametrize("fact", [failed(1), fired(0, 1), fired(0, 3), fired(1, 2)])
def test_what_belongs_to_another_attempt_changes_nothing(fact: f.Fact) -> None:
    case = Case().running().add(failed())
    before = case.actions
    assert case.add(fact).actions == before


def test_a_late_answer_of_an_attempt_that_was_given_up_still_counts() -> None:
    assert ended(Case().running().add(failed()).add(said(0))) == ("completed", "")


def test_a_tool_is_tried_again_and_the_last_try_knows_that_it_is() -> None:
    case = Case().running().add(said(0, ADD, LOOK), busy(1, ADD))
    assert [(work.step, work.attempt) for work in case.work] == [(2, 1)]
    case.add(fired(1, 2))
    tries = [(work.step, work.attempt, work.final) for work in case.work if is_tool(work)]
    assert tries == [(1, 2, False), (2, 1, False)]
    case.add(ran(2, LOOK), busy(1, ADD, attempt=2)).wait(9)
    assert [(work.attempt, work.final) for work in case.work if is_tool(work)] == [(3, True)]


def is_tool(work: RouteStep | RunTool) -> bool:
    return isinstance(work, RunTool)


def test_the_model_waits_for_a_tool_that_is_tried_again() -> None:
    case = Case().running().add(said(0, ADD), busy(1, ADD)).wait(9)
    assert [work.step for work in case.work] == [1]
    assert [work.step for work in case.add(ran(1, ADD)).work] == [2]


def test_a_deadline_does_not_wait_for_a_retry() -> None:
    case = Case().running().add(failed(), f.TimerFired(task="t1", timer="deadline"))
    assert ended(case) == ("failed", "deadline_exceeded")


def test_the_watch_looks_again_and_changes_nothing_else() -> None:
    case = Case().running()
    works = case.work
    case.wait(30).add(f.TimerFired(task="t1", timer="watch"))
    assert case.work == works
    assert case.timers == {"watch": 30.0}  # the deadline comes before the next look


def test_the_same_calls_again_and_again_are_no_progress() -> None:
    case = Case()
    case.submit(body=b'{"input": "x", "limits": {"max_repeats": 2}}').appended()
    case.add(said(0, ADD), ran(1, ADD), said(2, ADD), ran(3, ADD))
    assert [work.step for work in case.work] == [4]
    case.add(said(4, ADD))
    assert ended(case) == ("failed", "no_progress")


def test_other_calls_in_between_are_progress() -> None:
    case = Case()
    case.submit(body=b'{"input": "x", "limits": {"max_repeats": 1}}').appended()
    case.add(said(0, ADD), ran(1, ADD), said(2, LOOK), ran(3, LOOK))
    assert [work.step for work in case.work] == [4]
