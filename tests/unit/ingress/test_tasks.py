"""Task state from facts, ids from keys, events as JSON."""

import pytest

from services.ingress.core.tasks.state import (
    event_data,
    full,
    session_of_task,
    session_state,
    task_of_key,
    task_state,
)
from shared.contracts import facts as f
from shared.contracts.agents import AgentSpec, Limits, Sampling
from shared.contracts.base import TOKEN, SessionRef
from shared.contracts.log import Event
from shared.contracts.tasks import TaskSubmitted
from shared.contracts.tokens import TokenDelta
from shared.errors import Failure, Permanent
from tests.fakes.ingress_system import FakeSystem

REF = SessionRef("default", "s1")


def log_of(*facts):
    system = FakeSystem()
    system.add(REF, TaskSubmitted(input="hi"), "t", "assistant")
    for fact in facts:
        system.add(REF, fact)
    return system.log


def accepted():
    return f.Accepted(
        task="t",
        agent=AgentSpec(name="assistant"),
        revision=1,
        limits=Limits(),
        sampling=Sampling(),
        deadline=2000.0,
        source=1,
    )


CALL = f.Inferred(task="t", step=0, finish="tool_calls", usage=f.Usage(input=4, output=2), price=7)
ADDED = f.ToolDone(task="t", step=1, call="c", name="add", result="391")
SAID = f.Inferred(task="t", step=2, content="391", usage=f.Usage(input=9, output=1))


def test_a_submitted_task_is_queued():
    view = task_state(REF, "t", log_of())
    assert (view["state"], view["agent"], view["input"]) == ("queued", "assistant", "hi")
    assert view["steps"] == []


def test_an_accepted_task_runs_and_sums_what_it_has_used():
    view = task_state(REF, "t", log_of(accepted(), CALL, ADDED))
    assert view["state"] == "running"
    assert view["totals"]["usage"] == {"input": 4, "cached": 0, "output": 2, "reasoning": 0}
    assert (view["totals"]["steps"], view["totals"]["price"]) == (2, 7)


def test_done_gives_output_and_totals():
    totals = f.Totals(steps=3, infer_steps=2, tool_steps=1)
    end = f.Done(task="t", status="completed", output="391", totals=totals)
    view = task_state(REF, "t", log_of(accepted(), CALL, ADDED, SAID, end))
    assert (view["state"], view["output"], view["error"]) == ("completed", "391", None)
    assert view["totals"]["steps"] == 3
    assert [(s["step"], s["kind"]) for s in view["steps"]] == [
        (0, "infer"),
        (1, "tool"),
        (2, "infer"),
    ]


def test_a_failed_task_names_its_error():
    end = f.Done(task="t", status="failed", error=Failure(code="step_limit", detail="24"))
    view = task_state(REF, "t", log_of(accepted(), end))
    assert (view["state"], view["output"], view["error"]["code"]) == ("failed", None, "step_limit")


def test_the_first_result_of_a_step_wins():
    again = f.Inferred(task="t", step=2, content="392")
    view = task_state(REF, "t", log_of(accepted(), SAID, again))
    assert view["steps"][0]["content"] == "391"


def test_a_failed_attempt_stands_until_there_is_a_result():
    failed = f.InferFailed(task="t", step=2, error=Failure(code="engine_failed"))
    assert task_state(REF, "t", log_of(accepted(), failed))["steps"][0]["state"] == "failed"
    assert task_state(REF, "t", log_of(accepted(), failed, SAID))["steps"][0]["state"] == "done"


def test_other_tasks_of_the_session_do_not_count():
    other = f.Done(task="other", status="completed", output="x")
    assert task_state(REF, "t", log_of(other))["state"] == "queued"


def test_a_task_without_facts_is_unknown():
    with pytest.raises(Permanent, match="unknown_task"):
        task_state(REF, "nobody", log_of())


def test_a_session_lists_its_tasks():
    view = session_state(REF, log_of(accepted()))
    assert view["state"] == "running"
    assert [(t["task"], t["state"]) for t in view["tasks"]] == [("t", "running")]


def test_defaults_are_filled_in():
    assert full(f.Usage()) == {"input": 0, "cached": 0, "output": 0, "reasoning": 0}
    assert full(f.Done(task="t", status="completed"))["output"] == ""


def test_an_event_names_its_task_and_step():
    delta = TokenDelta(task="t", step=0, index=0, text="a")
    data = event_data(Event("1:t.0.1.0", "delta", 5.0, "t", delta))
    assert data == {"task": "t", "step": 0, "index": 0, "text": "a", "attempt": 1}


@pytest.mark.parametrize("key", ["order-1", "a.b", "ünï", "x" * 300])
def test_a_key_becomes_a_token(key):
    assert TOKEN.fullmatch(task_of_key("default", key))
    assert TOKEN.fullmatch(session_of_task(task_of_key("default", key)))


def test_tenants_do_not_share_keys():
    assert task_of_key("default", "order-1") == "order-1"
    names = {task_of_key(tenant, "order-1") for tenant in ("default", "acme", "umbrella")}
    assert len(names) == 3
