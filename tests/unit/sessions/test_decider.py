"""Every transition of the session loop, one at a time: these facts, therefore these actions."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from services.sessions.core.decide import Append, Publish, SetTimer, Stop, merge_limits
from shared.contracts import facts as f
from shared.contracts.agents import Limits, LimitsPatch, Priority, Sampling
from shared.contracts.base import encode
from shared.contracts.tasks import TaskSubmitted
from shared.contracts.work import RouteStep, RunTool
from shared.errors import Failure
from tests.fakes.session_world import REF, START
from tests.unit.sessions.case import ADD, AGENT, LOOK, TRACE, Case, broke, ended, ran, said


def test_nothing_is_done_where_nothing_is() -> None:
    assert Case().actions == []
    assert Case().state.idle


# -- the beginning -------------------------------------------------------------------------------


def test_a_task_is_accepted_with_all_that_the_log_needs_to_explain_itself() -> None:
    limits, sampling = LimitsPatch(max_steps=3), Sampling(seed=1)
    case = Case()
    body = encode(TaskSubmitted(input="hi", limits=limits, sampling=sampling))
    (accepted,) = case.submit(body=body).facts
    assert accepted == f.Accepted(
        task="t1",
        agent=AGENT,
        revision=4,
        limits=Limits(max_steps=3, max_tokens=100, deadline_s=60.0),
        sampling=sampling,
        deadline=START + 60.0,
        source=1,
    )


def test_the_first_step_and_the_timer_follow_from_the_acceptance() -> None:
    case = Case().running()
    route, timer = case.actions
    assert isinstance(route, Publish)
    assert route.work == RouteStep(
        ref=REF,
        task="t1",
        step=0,
        route="deep",
        seq=case.log.seq,
        sampling=AGENT.sampling,
        tools=("add", "look"),
        deadline=START + 60.0,
        asked=START,
    )
    assert timer == SetTimer("t1", START + 60.0, "watch")


def test_the_trace_of_the_task_is_carried_on() -> None:
    case = Case().submit()
    case.log.facts[0].headers["traceparent"] = f"00-{TRACE}-b7ad6b7169203331-01"
    assert [getattr(one, "trace_id", None) for one in case.actions] == [TRACE]
    assert case.appended().actions[0].trace_id == TRACE


def test_the_agent_of_the_acceptance_stays_though_another_revision_comes() -> None:
    case = Case().running()
    case.agents = {}
    assert [work.step for work in case.work] == [0]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"{oh", None),
        (b"{}", "input"),
        (b'{"input": 3}', "input"),
        (b'{"input": "x", "limits": {"max_steps": "many"}}', "limits.max_steps"),
        (b'{"input": "x", "limits": {"max_steps": 0}}', "limits.max_steps"),
        (b'{"input": "x", "limits": {"deadline_s": -1}}', "limits.deadline_s"),
        (b'{"input": [{"role": "user"}]}', "input[0].content"),
    ],
)
def test_a_malformed_task_ends_at_once(body: bytes, place: str | None) -> None:
    (done,) = Case().submit(body=body).facts
    assert isinstance(done, f.Done)
    assert done.error is not None
    assert (done.status, done.error.code, done.error.field) == ("failed", "invalid_task", place)


def test_an_unknown_agent_ends_the_task_at_once() -> None:
    (done,) = Case().submit(agent="nobody").facts
    assert isinstance(done, f.Done)
    assert done.error is not None
    assert (done.error.code, done.error.field) == ("unknown_agent", "agent")


def test_a_task_behind_a_refused_one_waits_for_its_end() -> None:
    case = Case().submit("t1", agent="nobody").submit("t2")
    assert [type(fact) for fact in case.facts] == [f.Done]
    assert [type(fact) for fact in case.appended().facts] == [f.Accepted]


def test_a_refusal_does_not_wait_for_the_task_that_runs() -> None:
    case = Case().running().submit("t2", agent="nobody").submit("t3")
    assert [(type(fact), fact.task) for fact in case.facts] == [(f.Done, "t2")]
    assert [work.task for work in case.work] == ["t1"]


@pytest.mark.parametrize(
    ("patch", "limits"),
    [
        (LimitsPatch(), Limits(max_steps=10, max_tokens=100, deadline_s=60.0)),
        (LimitsPatch(max_steps=3), Limits(max_steps=3, max_tokens=100, deadline_s=60.0)),
        (LimitsPatch(max_steps=99), Limits(max_steps=10, max_tokens=100, deadline_s=60.0)),
        (LimitsPatch(max_tokens=1), Limits(max_steps=10, max_tokens=1, deadline_s=60.0)),
        (LimitsPatch(deadline_s=0.5), Limits(max_steps=10, max_tokens=100, deadline_s=0.5)),
        (LimitsPatch(max_steps=0), Limits(max_steps=0, max_tokens=100, deadline_s=60.0)),
    ],
)
def test_a_task_can_tighten_limits_only(patch: LimitsPatch, limits: Limits) -> None:
    assert merge_limits(Limits(max_steps=10, max_tokens=100, deadline_s=60.0), patch) == limits


# -- steps ---------------------------------------------------------------------------------------


def test_an_answer_without_calls_completes_the_task() -> None:
    stop, done = Case().running().add(said(0)).actions
    assert stop == Stop("t1")
    totals = f.Totals(steps=1, infer_steps=1, usage=f.Usage(input=10, cached=2, output=5), price=7)
    assert isinstance(done, Append)
    assert done.fact == f.Done(task="t1", status="completed", output="step 0", totals=totals)


def test_calls_run_side_by_side_and_the_model_waits_for_all() -> None:
    case = Case().running().add(said(0, ADD, LOOK))
    first, second = case.work
    assert first == RunTool(
        ref=REF,
        task="t1",
        step=1,
        call="c-add",
        name="add",
        arguments='{"a": 1}',
        collection="handbook",
        deadline=START + 60.0,
        seq=case.log.seq,
        asked=START,
        final=False,
    )
    assert (second.step, getattr(second, "name", "")) == (2, "look")
    assert [work.step for work in case.add(ran(2, LOOK)).work] == [1]
    (route,) = case.add(broke(1, ADD)).work
    assert isinstance(route, RouteStep)
    assert (route.step, route.seq) == (3, case.log.seq)


def test_a_tool_that_the_agent_does_not_have_is_answered_in_its_place() -> None:
    bad = f.ToolCall(id="c-rm", name="rm", arguments="{}")
    case = Case().running().add(said(0, bad, ADD))
    (refused,) = case.facts
    assert isinstance(refused, f.ToolFailed)
    assert (refused.step, refused.call, refused.error.code) == (1, "c-rm", "tool_not_allowed")
    assert [work.step for work in case.work] == [2]
    assert [work.step for work in case.appended().add(ran(2, ADD)).work] == [3]


def test_done_adds_up_all_steps() -> None:
    case = Case().running().add(said(0, ADD, LOOK), ran(1, ADD), broke(2, LOOK), said(3))
    (done,) = case.facts
    assert isinstance(done, f.Done)
    assert done.totals == f.Totals(
        steps=4,
        infer_steps=2,
        tool_steps=2,
        usage=f.Usage(input=20, cached=4, output=10),
        price=14,
    )


def test_a_failed_model_call_fails_the_task() -> None:
    error = Failure(code="context_too_long")
    (done,) = Case().running().add(f.InferFailed(task="t1", step=0, error=error)).facts
    assert isinstance(done, f.Done)
    assert (done.status, done.error, done.output) == ("failed", error, "")


@pytest.mark.parametrize(
    "fact",
    [
        said(7),
        ran(7, ADD),
        ran(0, ADD, task="t9"),
        f.InferFailed(task="t1", step=4, error=Failure(code="x")),
        f.TimerFired(task="t9", timer="deadline"),
        f.Cancelled(task="t9"),
    ],
)
def test_what_nobody_asked_for_changes_nothing(fact: f.Fact) -> None:
    case = Case().running()
    before = case.actions
    assert case.add(fact).actions == before


def test_the_first_result_of_a_step_wins() -> None:
    case = Case().running().add(said(0, ADD))
    before = case.actions
    assert case.add(said(0)).actions == before
    error = Failure(code="late")
    assert case.add(f.InferFailed(task="t1", step=0, error=error)).actions == before
    case.add(ran(1, ADD))
    before = case.actions
    assert case.add(broke(1, ADD)).actions == before


# -- limits --------------------------------------------------------------------------------------


def test_calls_beyond_the_step_limit_are_not_run() -> None:
    case = Case().running().add(said(0, ADD, ADD, ADD, ADD, ADD, ADD))
    assert ended(case) == ("failed", "step_limit")


def test_no_model_call_beyond_the_step_limit() -> None:
    case = Case().running().add(said(0, ADD, ADD, ADD, ADD, ADD))
    assert len(case.work) == 5
    case.add(*(ran(step, ADD) for step in range(1, 6)))
    assert ended(case) == ("failed", "step_limit")


def test_the_last_step_of_the_limit_may_answer() -> None:
    case = Case().running().add(said(0, ADD, ADD, ADD, ADD))
    case.add(*(ran(step, ADD) for step in range(1, 5)), said(5))
    assert ended(case) == ("completed", "")


def test_no_model_call_beyond_the_token_limit() -> None:
    case = Case().running().add(said(0, ADD, tokens=95), ran(1, ADD))
    assert ended(case) == ("failed", "token_limit")


def test_an_answer_that_is_there_is_not_thrown_away_for_its_tokens() -> None:
    assert ended(Case().running().add(said(0, tokens=5000))) == ("completed", "")


def test_the_deadline_ends_the_task_and_names_it() -> None:
    case = Case().running().add(f.TimerFired(task="t1", timer="deadline"))
    assert ended(case) == ("failed", "deadline_exceeded")
    assert Stop("t1") in case.actions


# -- cancel --------------------------------------------------------------------------------------


def test_a_running_task_is_cancelled() -> None:
    case = Case().running().add(said(0, ADD), f.Cancelled(task="t1", by="me"))
    assert ended(case) == ("cancelled", "")
    assert Stop("t1") in case.actions
    assert case.work == []


def test_a_queued_task_is_cancelled_while_another_runs() -> None:
    case = Case().running().submit("t2").add(f.Cancelled(task="t2"))
    assert ended(case) == ("cancelled", "")
    assert [work.task for work in case.work] == ["t1"]


def test_a_task_cancelled_before_its_acceptance_never_speaks() -> None:
    case = Case().submit()
    accepted = case.facts[0]
    case.add(f.Cancelled(task="t1"), accepted)
    assert case.work == []
    assert ended(case) == ("cancelled", "")


@pytest.mark.parametrize("verdict", [said(0), f.TimerFired(task="t1", timer="deadline")])
def test_a_verdict_is_final(verdict: f.Fact) -> None:
    case = Case().running().add(verdict)
    before = case.actions
    assert case.add(f.Cancelled(task="t1")).facts[0].status == before[1].fact.status
    assert case.add(f.TimerFired(task="t1", timer="deadline"), said(0)).actions == before


# -- one after the other -------------------------------------------------------------------------


def test_a_second_task_waits_and_then_starts() -> None:
    case = Case().running("t1").submit("t2")
    assert {work.task for work in case.work} == {"t1"}
    case.add(said(0)).appended()
    (accepted,) = case.facts
    assert isinstance(accepted, f.Accepted)
    assert accepted.task == "t2"
    assert [(work.task, work.step) for work in case.appended().work] == [("t2", 0)]


def test_the_end_leaves_the_session_idle() -> None:
    case = Case().running().add(said(0)).appended()
    assert case.state.idle
    assert case.actions == []


@pytest.mark.parametrize("moment", ["queued", "running", "ended"])
def test_a_task_id_counts_once(moment: str) -> None:
    case = Case().submit()
    if moment != "queued":
        case.appended()
    if moment == "ended":
        case.add(said(0)).appended()
    before = case.state
    case.log.ids.clear()
    case.submit(body=b'{"input": "again"}')
    after = case.state
    assert (after.queue, after.running, after.ended) == (
        before.queue,
        before.running,
        before.ended,
    )


def test_late_results_do_not_reach_the_next_task() -> None:
    case = Case().running().submit("t2").add(f.Cancelled(task="t1")).appended().appended()
    before = case.actions
    assert case.add(said(0)).actions == before
    assert [work.task for work in case.work] == ["t2"]


def test_the_next_call_names_the_worker_of_the_last_one_in_later_tasks_too() -> None:
    case = Case().running().add(replace(said(0, ADD), worker="w2"), ran(1, ADD))
    assert [work.served for work in case.work] == ["w2"]
    case.add(replace(said(2), worker="")).appended()  # a cache answered: nothing is new
    assert case.submit("t2").appended().work[0].served == "w2"


@pytest.mark.parametrize(
    ("of_agent", "of_task", "priority"),
    [
        ("interactive", None, "interactive"),
        ("batch", None, "batch"),
        ("batch", "interactive", "interactive"),
        ("interactive", "batch", "batch"),
    ],
)
def test_a_task_says_how_urgent_it_is_or_its_agent_does(
    of_agent: Priority, of_task: Priority | None, priority: Priority
) -> None:
    case = Case()
    case.agents = {"helper": (1, replace(AGENT, priority=of_agent))}
    case.submit(body=encode(TaskSubmitted(input="hi", priority=of_task))).appended()
    assert [work.priority for work in case.work] == [priority]
