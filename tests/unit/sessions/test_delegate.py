"""Agents that ask agents: what is asked, how much it may use, what comes back, who stops whom."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from services.sessions.core.decide import Append, Delegate
from shared.contracts import facts as f
from shared.contracts.agents import Limits
from shared.contracts.base import SessionRef, encode
from shared.contracts.log import KEY_HEADER
from shared.contracts.tasks import Parent, TaskSubmitted, child_of
from shared.contracts.work import RouteStep
from shared.errors import Failure
from tests.fakes.session_world import REF
from tests.unit.sessions.case import ADD, AGENT, Case, ended, ran, said

BOSS = replace(AGENT, agents={"expert": "Knows it."}, limits=Limits(max_steps=9, max_tokens=1000))


def ask(number: int = 0, arguments: str = '{"input": "why?"}') -> f.ToolCall:
    return f.ToolCall(id=f"c-ask{number}", name="ask_expert", arguments=arguments)


def boss(**changes: object) -> Case:
    case = Case()
    case.agents = {"helper": (1, replace(BOSS, **changes))}
    return case.running()


def delegated(case: Case) -> list[Delegate]:
    return [action for action in case.actions if isinstance(action, Delegate)]


def answered(step: int, call: f.ToolCall, tokens: int = 100) -> f.ToolDone:
    spent = f.Totals(usage=f.Usage(input=tokens), price=3)
    return f.ToolDone(
        task="t1", step=step, call=call.id, name=call.name, result="because", spent=spent
    )


def test_the_model_sees_whom_it_may_ask() -> None:
    (route,) = boss().work
    assert isinstance(route, RouteStep)
    assert [(spec.name, spec.description) for spec in route.agents] == [("ask_expert", "Knows it.")]


def test_a_call_becomes_a_task_of_a_session_of_its_own() -> None:
    case = boss().add(said(0, ask(), ADD))
    (child,) = delegated(case)
    assert (child.ref, child.task) == child_of(REF, "t1", 1)
    assert child.agent == "expert"
    assert child.body.input == "why?"
    assert child.body.parent == Parent(
        session="s1", task="t1", step=1, call="c-ask0", name="ask_expert", depth=1
    )
    assert [work.step for work in case.work] == [2]


def test_whoever_waits_for_a_task_waits_for_those_it_asks() -> None:
    (child,) = delegated(boss(priority="batch").add(said(0, ask())))
    assert child.body.priority == "batch"


def test_whoever_is_asked_works_for_the_same_key() -> None:
    case = boss()
    case.log.facts[0].headers[KEY_HEADER] = "k1"
    (child,) = delegated(case.add(said(0, ask())))
    assert child.key == "k1"


def test_what_is_left_is_shared_among_those_who_are_asked_at_once() -> None:
    case = boss().add(said(0, ask(0), ask(1), tokens=95))
    assert [one.body.limits.max_tokens for one in delegated(case)] == [450, 450]


def test_the_answer_is_the_calls_result_and_counts_for_the_limits_alone() -> None:
    case = boss().add(said(0, ask()), answered(1, ask(), tokens=2000))
    assert ended(case) == ("failed", "token_limit")
    case = boss().add(said(0, ask()), answered(1, ask()), said(2))
    (done,) = case.facts
    assert isinstance(done, f.Done)
    assert (done.totals.usage.input, done.totals.price, done.totals.tool_steps) == (20, 14, 1)


def test_agents_ask_agents_only_so_deep() -> None:
    case = boss(limits=Limits(max_depth=0)).add(said(0, ask()))
    (refused,) = case.facts
    assert isinstance(refused, f.ToolFailed)
    assert refused.error.code == "depth_limit"


@pytest.mark.parametrize("arguments", ["", "{}", "[]", '{"input": 3}', '{"input": ""}', "{oh"])
def test_a_question_without_words_is_answered_in_its_place(arguments: str) -> None:
    (refused,) = boss().add(said(0, ask(arguments=arguments))).facts
    assert isinstance(refused, f.ToolFailed)
    assert (refused.error.code, refused.error.field) == ("invalid_arguments", "input")


def test_whoever_was_asked_is_stopped_with_the_task() -> None:
    case = boss().add(said(0, ask(0), ask(1)), answered(1, ask(0)), f.Cancelled(task="t1"))
    child, task = child_of(REF, "t1", 2)
    told = [one for one in case.actions if isinstance(one, Append) and one.ref is not None]
    assert [(one.ref, one.fact) for one in told] == [
        (child, f.Cancelled(task=task, by="t1", reason="parent_ended"))
    ]


# -- the other side ------------------------------------------------------------------------------

ABOVE = Parent(session="above", task="t0", step=4, call="c9", name="ask_helper", depth=2)


def below(agent: str = "helper", task: str = "", parent: Parent = ABOVE) -> Case:
    """A task that another session asked for, in the session that it belongs to."""
    ref, name = child_of(SessionRef("acme", parent.session), parent.task, parent.step)
    case = Case()
    body = encode(TaskSubmitted(input="why?", parent=parent))
    case.submit(task or name, agent, body)
    case.place = ref
    return case


def told(case: Case) -> f.ToolDone | f.ToolFailed:
    (first,) = [one for one in case.actions if isinstance(one, Append) and one.ref is not None]
    assert first.ref == SessionRef("acme", "above")
    assert isinstance(first.fact, f.ToolDone | f.ToolFailed)
    assert (first.fact.task, first.fact.step, first.fact.call) == ("t0", 4, "c9")
    return first.fact


def test_the_end_is_told_to_whoever_asked_before_it_is_the_end() -> None:
    case = below().appended()
    task = case.state.running.task  # type: ignore[union-attr]
    case.add(said(0, task=task))
    fact = told(case)
    assert isinstance(fact, f.ToolDone)
    assert (fact.result, fact.spent) == (
        "step 0",
        f.Totals(steps=1, infer_steps=1, usage=f.Usage(input=10, cached=2, output=5), price=7),
    )


def test_a_failure_is_told_too() -> None:
    fact = told(below(agent="nobody"))
    assert isinstance(fact, f.ToolFailed)
    assert fact.error.code == "unknown_agent"


def test_a_task_that_only_claims_to_be_asked_for_is_refused() -> None:
    case = below(task="mine")
    (done,) = case.facts
    assert isinstance(done, f.Done)
    assert done.error == Failure(
        code="invalid_task", detail="only the loop names a parent", field="parent"
    )
    assert [one for one in case.actions if isinstance(one, Append) and one.ref is not None] == []


def test_the_depth_is_carried_on() -> None:
    case = below()
    case.agents = {"helper": (1, replace(BOSS, limits=Limits(max_depth=2)))}
    case.appended()
    task = case.state.running.task  # type: ignore[union-attr]
    case.add(said(0, ask(), task=task))
    (refused,) = case.facts
    assert isinstance(refused, f.ToolFailed)
    assert refused.error.code == "depth_limit"


def test_tools_of_a_task_that_asks_are_run_as_ever() -> None:
    case = boss().add(said(0, ADD, ask()), ran(1, ADD), answered(2, ask()))
    assert [work.step for work in case.work] == [3]
