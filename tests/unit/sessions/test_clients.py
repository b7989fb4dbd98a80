"""Tools that the client answers itself, and what else a client brings along for its task."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from services.sessions.core.control import continued, given, given_before, recorded, retried
from services.sessions.core.replay import Replay
from shared.contracts import facts as f
from shared.contracts.agents import BARE, Effort, Sampling, ToolSpec
from shared.contracts.base import encode
from shared.contracts.control import ApproveStep, GiveResult, RejectStep, RetryTask
from shared.contracts.demands import Demands
from shared.contracts.tasks import InputMessage, PastCall, TaskSubmitted, Terms
from shared.contracts.work import RouteStep
from shared.errors import Failure, Permanent
from tests.unit.sessions.case import ADD, AGENT, Case, ended, ran, said

MINE = ToolSpec(name="mine", parameters={"type": "object"})
CALL = f.ToolCall(id="c-mine", name="mine", arguments='{"n": 1}')
OTHER = f.ToolCall(id="c-other", name="mine", arguments='{"n": 2}')


def submitted(agent: str = "helper", **given: object) -> Case:
    body = {"input": "hi", "tools": (MINE,)} | given
    return Case().submit(agent=agent, body=encode(TaskSubmitted(**body)))  # type: ignore[arg-type]


def running(agent: str = "helper", **given: object) -> Case:
    return submitted(agent, **given).appended()


def parked(*calls: f.ToolCall) -> Case:
    return running().add(said(0, *(calls or (CALL,)))).appended()


def answered(case: Case, call: str = CALL.id, **given_: object) -> Case:
    fact = given(case.state, GiveResult(task="t1", call=call, result="42", **given_))  # type: ignore[arg-type]
    assert fact is not None
    return case.add(fact)


def model_call(case: Case) -> RouteStep:
    (work,) = case.work
    assert isinstance(work, RouteStep)
    return work


# -- the loop --------------------------------------------------------------------------------------


def test_the_model_sees_the_clients_tools_beside_the_agents() -> None:
    work = model_call(running())
    assert (work.tools, work.functions) == (AGENT.tools, (MINE,))


def test_a_call_of_the_client_waits_while_the_others_run() -> None:
    case = running().add(said(0, CALL, ADD))
    (question,) = case.facts
    assert question == f.Parked(task="t1", step=1, reason="client_tool", detail='mine {"n": 1}')
    assert [work.step for work in case.work] == [2]
    case.appended().add(ran(2, ADD))
    assert case.work == []
    assert case.state.running is not None
    assert case.state.running.waiting_since is not None


def test_the_result_of_the_client_is_what_the_model_reads() -> None:
    case = answered(parked())
    assert model_call(case).step == 2
    assert case.add(said(2)).appended().state.idle


def test_all_calls_need_a_result_in_any_order() -> None:
    case = answered(parked(CALL, OTHER), OTHER.id)
    assert case.work == []
    assert model_call(answered(case)).step == 3


def test_the_clock_stands_still_while_the_client_works() -> None:
    case = parked().wait(10_000)
    assert case.facts == []
    state = answered(case).state.running
    assert state is not None
    assert state.deadline == state.started + 10_000 + AGENT.limits.deadline_s


def test_a_client_that_never_comes_is_an_error_to_the_model() -> None:
    case = parked()
    assert case.timers["approval-1-1"] == AGENT.approval_s
    case.add(f.TimerFired(task="t1", timer="approval", step=1, attempt=1))
    assert model_call(case).step == 2


def test_the_first_result_counts() -> None:
    case = answered(parked())
    before = case.state.running
    case.add(f.Approved(task="t1", step=1, result="another"))
    assert case.state.running == before
    again = GiveResult(task="t1", call=CALL.id, result="another")
    assert given(case.state, again) is None
    first = next(one for one in case.log.facts if isinstance(one.fact, f.Approved))
    assert given_before(case.log.facts, again) == first.seq


def test_an_approval_cannot_run_what_is_the_clients() -> None:
    case = parked()
    with pytest.raises(Permanent, match="result_needed"):
        recorded(case.state, ApproveStep(task="t1", step=1))
    before = case.actions
    assert case.add(f.Approved(task="t1", step=1)).actions == before


def test_a_client_may_refuse_its_own_call() -> None:
    case = parked()
    case.add(recorded(case.state, RejectStep(task="t1", step=1, note="no")))
    assert model_call(case).step == 2
    with pytest.raises(Permanent, match="not_parked"):
        given_before(case.log.facts, GiveResult(task="t1", call=CALL.id, result="42"))


def test_a_result_needs_a_call_that_waits_for_it() -> None:
    case = parked(CALL, ADD)
    with pytest.raises(Permanent, match="not_parked"):
        given(case.state, GiveResult(task="t1", call=ADD.id, result="42"))
    with pytest.raises(Permanent, match="unknown_call"):
        given_before(case.log.facts, GiveResult(task="t1", call="c-none", result="42"))


# -- terms -----------------------------------------------------------------------------------------


def test_what_is_demanded_is_demanded_of_the_first_answer() -> None:
    case = running(demands=Demands(tool_choice="required", parallel_tool_calls=False))
    assert model_call(case).demands.tool_choice == "required"
    case.add(said(0, CALL)).appended()
    answered(case)
    assert model_call(case).demands == Demands(parallel_tool_calls=False)


@pytest.mark.parametrize(
    ("asked", "agents", "effort"),
    [(None, None, None), (None, "low", "low"), ("high", "low", "high"), ("none", "low", "none")],
)
def test_how_much_is_thought_is_the_agents_to_say_where_the_client_does_not(
    asked: Effort | None, agents: Effort | None, effort: Effort | None
) -> None:
    case = submitted(demands=Demands(effort=asked))
    case.agents = {"helper": (4, replace(AGENT, effort=agents))}
    assert model_call(case.appended()).demands == Demands(effort=effort)


def test_a_result_may_bring_other_terms() -> None:
    yours = ToolSpec(name="yours")
    terms = Terms(
        tools=(yours,),
        route="fast",
        sampling=Sampling(temperature=1.0),
        demands=Demands(tool_choice="function", function="yours"),
    )
    work = model_call(answered(parked(), terms=terms))
    assert (work.functions, work.route, work.sampling) == ((yours,), "fast", terms.sampling)
    assert work.demands == terms.demands


def test_the_same_terms_are_not_said_twice() -> None:
    case = parked()
    order = GiveResult(task="t1", call=CALL.id, result="42", terms=Terms(tools=(MINE,)))
    fact = given(case.state, order)
    assert fact is not None
    assert fact.terms is None
    forced = Terms(tools=(MINE,), demands=Demands(tool_choice="required"))
    fact = given(case.state, replace(order, terms=forced))
    assert fact is not None
    assert fact.terms == forced


def test_other_terms_are_judged_like_the_first() -> None:
    bad = Terms(tools=(ToolSpec(name="add"),))
    order = GiveResult(task="t1", call=CALL.id, result="42", terms=bad)
    with pytest.raises(Permanent, match="duplicate_tool"):
        given(parked().state, order)


@pytest.mark.parametrize(
    ("given_", "code"),
    [
        ({"tools": (ToolSpec(name="add"),)}, "duplicate_tool"),
        ({"tools": (MINE, MINE)}, "duplicate_tool"),
        ({"tools": (ToolSpec(name="no name"),)}, "invalid_name"),
        ({"demands": Demands(tool_choice="function", function="x")}, "unknown_tool"),
        ({"input": (InputMessage(role="tool", content="1"),)}, "unknown_call"),
        ({"input": (InputMessage(role="tool", content="1", tool_call_id="c"),)}, "unknown_call"),
    ],
)
def test_what_cannot_be_is_refused_and_explained(given_: dict[str, object], code: str) -> None:
    case = submitted(**given_)
    assert ended(case) == ("failed", code)
    facts = case.appended().log.facts
    assert case.state.idle
    assert all(Replay(facts).explains(n) for n in range(len(facts)))


def test_a_history_with_an_open_call_is_refused() -> None:
    call = InputMessage(
        role="assistant", content="", tool_calls=(PastCall(id="c", name="x", arguments="{}"),)
    )
    result = InputMessage(role="tool", content="1", tool_call_id="c")
    assert ended(submitted(input=(call,))) == ("failed", "missing_result")
    assert ended(submitted(input=(call, call, result))) == ("failed", "missing_result")
    assert not submitted(input=(call, result)).state.idle
    assert isinstance(submitted(input=(call, result)).facts[0], f.Accepted)


def test_a_task_needs_no_agent() -> None:
    case = running(BARE.name, route="deep", instructions="Count.")
    work = model_call(case)
    assert (work.route, work.tools) == ("deep", ())
    (accepted,) = (one.fact for one in case.log.facts if isinstance(one.fact, f.Accepted))
    assert accepted.agent == replace(BARE, route="deep")
    assert accepted.terms.instructions == "Count."


def test_a_task_that_goes_on_with_a_failed_one_has_its_terms() -> None:
    failed = f.InferFailed(task="t1", step=0, error=Failure(code="context_too_long"))
    case = running(instructions="Count.").add(failed).appended()
    order = RetryTask(task="t1", retry="t2")
    again = continued(retried(case.state, order), order)
    assert (again.tools, again.instructions) == ((MINE,), "Count.")
    case.submit("t2", body=encode(again)).appended()
    assert model_call(case).functions == (MINE,)


def test_what_brings_terms_along_is_not_said_to_another_task() -> None:
    case = running()
    case.submit("t2", body=encode(TaskSubmitted(input="and?", on_busy="steer", tools=(MINE,))))
    assert case.facts == []
    assert [one.join for one in case.state.queue] == [""]
