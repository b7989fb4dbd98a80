"""What people do to a running task: approve, reject, raise a limit, say something, interrupt."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from services.sessions.core.control import fired, recorded, retried
from shared.contracts import facts as f
from shared.contracts.agents import AgentSpec, LimitsPatch
from shared.contracts.base import encode
from shared.contracts.control import ApproveStep, CancelTask, RejectStep, RetryTask, SteerTask
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Failure, Permanent
from tests.fakes.session_world import START
from tests.unit.sessions.case import ADD, AGENT, LOOK, Case, ended, ran, said


def asking(**changes: object) -> Case:
    """A running task of an agent with other settings."""
    case = Case()
    case.agents = {"helper": (1, replace(AGENT, **changes))}
    return case.running()


def parked() -> Case:
    """A call that waits for a person."""
    return asking(approve=("add",)).add(said(0, ADD)).appended()


def approved(step: int = 1, **given: object) -> f.Approved:
    return f.Approved(task="t1", step=step, **given)  # type: ignore[arg-type]


# -- approvals -----------------------------------------------------------------------------------


def test_a_call_that_needs_it_waits_for_a_person() -> None:
    case = asking(approve=("add",)).add(said(0, ADD, LOOK))
    (question,) = case.facts
    assert question == f.Parked(task="t1", step=1, reason="approval", detail='add {"a": 1}')
    assert [work.step for work in case.work] == [2]
    case.appended()
    assert case.facts == []
    assert case.timers["approval-1-1"] == AGENT.approval_s


def test_an_approved_call_runs_with_what_the_person_wrote() -> None:
    (work,) = parked().add(approved(arguments='{"a": 2}')).work
    assert (work.step, getattr(work, "arguments", "")) == (1, '{"a": 2}')


def test_a_result_from_a_person_stands_for_the_call() -> None:
    assert [work.step for work in parked().add(approved(result="3")).work] == [2]


@pytest.mark.parametrize(
    "fact",
    [
        f.Rejected(task="t1", step=1, note="no"),
        f.TimerFired(task="t1", timer="approval", step=1, attempt=1),
    ],
)
def test_a_refusal_is_the_calls_result(fact: f.Fact) -> None:
    assert [work.step for work in parked().add(fact).work] == [2]


@pytest.mark.parametrize(
    "fact", [approved(), f.Rejected(task="t1", step=1), approved(2), approved(attempt=7)]
)
def test_a_question_has_one_answer(fact: f.Fact) -> None:
    case = parked().add(approved(arguments='{"a": 2}'))
    before = case.actions
    assert case.add(fact).actions == before


def test_time_does_not_count_while_a_person_is_asked() -> None:
    case = parked()
    assert case.wait(1000).timers["watch"] == 150.0 - 1000
    case.add(f.TimerFired(task="t1", timer="deadline"))
    assert case.facts == []
    case.add(approved())
    assert case.work[0].deadline == START + 60 + 1000


def test_an_outcome_that_nobody_knows_is_asked_for_and_run_again_as_another_attempt() -> None:
    unknown = f.Parked(task="t1", step=1, reason="unknown_outcome")
    case = Case().running().add(said(0, ADD), unknown)
    assert case.work == []
    assert [(work.step, work.attempt) for work in case.add(approved()).work] == [(1, 2)]


def test_a_result_that_comes_after_all_answers_the_question() -> None:
    unknown = f.Parked(task="t1", step=1, reason="unknown_outcome")
    case = Case().running().add(said(0, ADD), unknown, ran(1, ADD))
    assert [work.step for work in case.work] == [2]


# -- limits --------------------------------------------------------------------------------------


def held() -> Case:
    """Out of tokens, and asking for more."""
    case = asking(on_limit="pause").add(said(0, ADD, tokens=95), ran(1, ADD))
    (question,) = case.facts
    assert isinstance(question, f.Parked)
    assert (question.step, question.reason) == (2, "budget")
    assert question.detail.startswith("token_limit")
    return case.appended()


def test_a_raised_limit_lets_the_task_go_on() -> None:
    case = held()
    assert case.work == []
    case.add(approved(2, hold=1, limits=LimitsPatch(max_tokens=500)))
    assert [work.step for work in case.work] == [2]


def test_a_limit_that_was_not_raised_enough_is_asked_for_again() -> None:
    (again,) = held().add(approved(2, hold=1, limits=LimitsPatch(max_tokens=99))).facts
    assert isinstance(again, f.Parked)
    assert again.hold == 2


def test_calls_that_waited_for_a_limit_are_run_then() -> None:
    case = asking(on_limit="pause").add(said(0, ADD, ADD, ADD, ADD, ADD, LOOK)).appended()
    case.add(approved(1, hold=1, limits=LimitsPatch(max_steps=20)))
    assert [work.step for work in case.work] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "fact",
    [
        f.Rejected(task="t1", step=2, hold=1),
        f.TimerFired(task="t1", timer="approval", step=2, hold=1),
    ],
)
def test_a_limit_that_is_not_raised_ends_the_task(fact: f.Fact) -> None:
    assert ended(held().add(fact)) == ("failed", "token_limit")


def test_money_is_a_limit() -> None:
    case = Case()
    case.submit(body=b'{"input": "x", "limits": {"max_cost": 7}}').appended()
    assert ended(case.add(said(0, ADD), ran(1, ADD))) == ("failed", "cost_limit")


# -- steering ------------------------------------------------------------------------------------


def steer(name: str = "m1") -> f.Steered:
    return f.Steered(task="t1", id=name, text="shorter")


def test_what_is_said_while_the_model_speaks_is_answered_before_the_end() -> None:
    case = Case().running().add(steer(), said(0))
    assert [work.step for work in case.work] == [1]
    assert ended(case.add(said(1))) == ("completed", "")


def test_what_is_said_while_tools_run_is_in_the_next_prompt() -> None:
    case = Case().running().add(said(0, ADD), steer(), ran(1, ADD), said(2))
    assert ended(case) == ("completed", "")


def test_the_same_thing_is_said_once() -> None:
    case = Case().running().add(steer(), steer(), said(0), steer(), said(1))
    assert ended(case) == ("completed", "")


# -- a second task on a busy session -------------------------------------------------------------


def second(case: Case, policy: str) -> Case:
    return case.submit("t2", body=encode(TaskSubmitted(input="stop", on_busy=policy)))  # type: ignore[arg-type]


def test_a_busy_session_rejects_where_it_shall() -> None:
    case = second(Case().running(), "reject")
    assert ended(case) == ("failed", "session_busy")
    assert [work.task for work in case.work] == ["t1"]


def test_a_free_session_takes_the_task_whatever_the_policy() -> None:
    for policy in ("reject", "interrupt", "steer"):
        case = second(Case(), policy)
        assert [type(fact) for fact in case.facts] == [f.Accepted]


def test_an_interruption_ends_what_runs() -> None:
    case = second(Case().running(), "interrupt")
    (done,) = case.facts
    assert isinstance(done, f.Done)
    assert done.error is not None
    assert (done.task, done.status, done.error.code) == ("t1", "cancelled", "interrupted")
    (accepted,) = case.appended().facts
    assert accepted.task == "t2"  # type: ignore[attr-defined]


def test_a_task_that_joins_is_said_to_the_running_one_and_ends() -> None:
    case = second(Case().running(), "steer")
    assert case.facts == [f.Steered(task="t1", id="t2", text="stop")]
    (done,) = case.appended().facts
    assert done == f.Done(task="t2", status="completed", joined="t1")
    assert [work.step for work in case.appended().add(said(0)).work] == [1]


def test_a_task_that_came_too_late_to_join_runs_on_its_own() -> None:
    case = second(Case().running(), "steer").add(said(0))
    assert ended(case) == ("completed", "")
    (accepted,) = case.appended().facts
    assert accepted.task == "t2"  # type: ignore[attr-defined]


def test_a_task_that_was_heard_ends_though_the_other_ended_first() -> None:
    case = second(Case().running(), "steer").appended()
    case.add(f.Cancelled(task="t1"))
    done = f.Done(task="t1", status="cancelled")
    assert [fact for fact in case.add(done).facts] == [
        f.Done(task="t2", status="completed", joined="t1")
    ]


def test_the_running_agent_says_what_becomes_of_others() -> None:
    case = asking(on_busy="reject").submit("t2")
    assert ended(case) == ("failed", "session_busy")


# -- going on with a failed task -----------------------------------------------------------------


def broken() -> Case:
    error = Failure(code="context_too_long")
    case = Case().running().add(said(0, ADD), ran(1, ADD))
    return case.add(f.InferFailed(task="t1", step=2, error=error)).appended()


def again(case: Case, task: str = "t1") -> Case:
    return case.submit("t1-r1", body=encode(TaskSubmitted(input="", retry_of=task)))


def test_a_failed_task_is_gone_on_with() -> None:
    case = again(broken()).appended()
    assert [(work.task, work.step) for work in case.work] == [("t1-r1", 0)]


@pytest.mark.parametrize(
    ("case", "task", "code"),
    [
        (Case().running().add(said(0)).appended(), "t1", "not_failed"),
        (Case().running(), "t1", "not_failed"),
        (broken().running("t2").add(said(0)).appended(), "t1", "superseded"),
        (broken().running("t2"), "t1", "superseded"),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused(case: Case, task: str, code: str) -> None:
    again(case, task)
    refusals = [one for one in case.facts if isinstance(one, f.Done) and one.task == "t1-r1"]
    assert [one.error.code for one in refusals if one.error] == [code]
    with pytest.raises(Permanent) as caught:
        retried(case.state, RetryTask(task="t9", retry="t9-r1"))
    assert caught.value.code == "unknown_task"


def test_a_request_to_go_on_is_judged_before_it_is_submitted() -> None:
    assert retried(broken().state, RetryTask(task="t1", retry="t1-r1")).agent == "helper"


# -- requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "order", "code", "field"),
    [
        (Case(), CancelTask(task="t1"), "unknown_task", "task"),
        (broken(), CancelTask(task="t1"), "task_ended", "task"),
        (Case().submit(), SteerTask(task="t1", text="x", id="m"), "not_running", "task"),
        (Case().running(), ApproveStep(task="t1", step=0), "not_parked", "step"),
        (parked(), RejectStep(task="t1", step=2), "not_parked", "step"),
        (parked(), ApproveStep(task="t1", step=1, arguments="{"), "invalid_arguments", "arguments"),
        (
            parked(),
            ApproveStep(task="t1", step=1, arguments="[]"),
            "invalid_arguments",
            "arguments",
        ),
        (
            parked(),
            ApproveStep(task="t1", step=1, limits=LimitsPatch()),
            "invalid_arguments",
            "limits",
        ),
        (held(), ApproveStep(task="t1", step=2, result="x"), "invalid_arguments", "limits"),
    ],
)
def test_a_request_that_cannot_be_is_refused(case: Case, order, code: str, field: str) -> None:
    with pytest.raises(Permanent) as caught:
        recorded(case.state, order)
    assert (caught.value.code, caught.value.field) == (code, field)


def test_requests_become_facts() -> None:
    assert recorded(parked().state, ApproveStep(task="t1", step=1, by="ada")) == approved(by="ada")
    assert recorded(parked().state, RejectStep(task="t1", step=1)) == f.Rejected(task="t1", step=1)
    assert recorded(held().state, RejectStep(task="t1", step=2)) == f.Rejected(
        task="t1", step=2, hold=1
    )
    assert recorded(Case().running().state, SteerTask(task="t1", text="x", id="m")) == f.Steered(
        task="t1", id="m", text="x"
    )
    assert recorded(Case().submit().state, CancelTask(task="t1")) == f.Cancelled(task="t1")


# -- timers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "name", "after", "timer"),
    [
        (Case().running(), "watch", 10.0, "watch"),
        (Case().running(), "watch", 60.0, "deadline"),
        (Case().running(), "deadline", 61.0, "deadline"),
        (parked(), "watch", 1e6, "watch"),
        (parked(), "approval-1-1", 1e6, "approval"),
        (held(), "limit-2-1", 1e6, "approval"),
        (parked(), "approval-1-2", 1e6, None),
        (held(), "limit-2-2", 1e6, None),
        (Case().running(), "retry-0-2", 1.0, None),
        (Case().running(), "lunch-0-2", 1.0, None),
        (Case().running(), "retry-x", 1.0, None),
        (broken(), "watch", 61.0, None),
    ],
)
def test_a_timer_is_a_fact_where_somebody_waits_for_it(
    case: Case, name: str, after: float, timer: str | None
) -> None:
    fact = fired(case.state, "t1", name, START + after)
    assert (fact.timer if fact else None) == timer


def test_agents_say_nothing_of_this_by_default() -> None:
    assert AgentSpec(name="x").approve == ()
    assert AgentSpec(name="x").on_busy == "queue"
