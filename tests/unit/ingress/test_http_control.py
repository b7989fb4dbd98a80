"""`/v1/tasks/{id}/{steer,approve,reject,retry}`, parked tasks and `on_busy` over HTTP."""

import pytest

from shared.contracts import facts as f
from shared.contracts.agents import LimitsPatch
from shared.contracts.base import SessionRef
from shared.contracts.control import ApproveStep, RejectStep, RetryTask, SteerTask
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Failure, Permanent, Transient
from tests.unit.ingress.test_tasks import accepted

REF = SessionRef("default", "s1")
ASKED = f.Inferred(
    task="t",
    step=0,
    finish="tool_calls",
    tool_calls=(f.ToolCall(id="c", name="delete", arguments="{}"),),
)
PARKED = f.Parked(task="t", step=1, reason="approval", detail="delete asks first")
BUSY = Failure(code="busy", family="transient")
HERE = {"task": "t", "step": 1, "call": "c", "name": "delete"}


@pytest.fixture
def task(system):
    system.add(REF, TaskSubmitted(input="hi"), "t", "assistant")
    for fact in (accepted(), ASKED, PARKED):
        system.add(REF, fact)
    return "/v1/tasks/t"


async def test_a_parked_task_says_what_it_waits_for(http, task):
    body = (await http.get(task)).json()
    assert body["state"] == "parked"
    assert body["waits_for"] == [
        {
            "step": 1,
            "reason": "approval",
            "detail": "delete asks first",
            "attempt": 1,
            "since": 1004.0,
        }
    ]
    assert [note["kind"] for note in body["notes"]] == ["parked"]
    session = (await http.get("/v1/sessions/s1")).json()
    assert (session["state"], session["tasks"][0]["state"]) == ("running", "parked")


async def test_approve_needs_no_body_where_one_step_waits(http, system, task):
    response = await http.post(f"{task}/approve")
    assert (response.status_code, response.json()) == (
        202,
        {"task": "t", "session": "s1", "sequence": 5},
    )
    assert system.sent == [("approve", ApproveStep(task="t", step=1))]
    body = (await http.get(task)).json()
    assert (body["state"], body["waits_for"]) == ("running", [])


async def test_approve_with_all_that_can_be_changed(http, system, task):
    change = {"step": 1, "by": "kim", "note": "fine"}
    await http.post(f"{task}/approve", json=change | {"arguments": {"path": "/data"}})
    await http.post(f"{task}/approve", json=change | {"result": "by hand"})
    limits = {"max_steps": 9, "max_cost": 5}
    await http.post(f"{task}/approve", json=change | {"limits": limits})
    kim = {"task": "t", "step": 1, "by": "kim", "note": "fine"}
    assert [order for _, order in system.sent] == [
        ApproveStep(**kim, arguments='{"path":"/data"}'),
        ApproveStep(**kim, result="by hand"),
        ApproveStep(**kim, limits=LimitsPatch(max_steps=9, max_cost=5)),
    ]


async def test_reject_and_its_note(http, system, task):
    response = await http.post(f"{task}/reject", json={"note": "no", "by": "kim"})
    assert response.status_code == 202
    assert system.sent == [("reject", RejectStep(task="t", step=1, by="kim", note="no"))]
    again = await http.post(f"{task}/reject")
    assert (again.status_code, again.json()["code"]) == (409, "not_parked")


async def test_several_steps_wait(http, system, task):
    system.add(REF, f.Parked(task="t", step=2, reason="approval"))
    response = await http.post(f"{task}/approve")
    body = response.json()
    assert (response.status_code, body["code"], body["field"]) == (422, "step_needed", "step")


async def test_steer_says_the_same_thing_once(http, system, task):
    for _ in range(2):
        response = await http.post(
            f"{task}/steer",
            json={"text": "in German", "by": "kim"},
            headers={"Idempotency-Key": "say 1"},
        )
        assert response.status_code == 202
    orders = [order for _, order in system.sent]
    assert orders[0] == orders[1]
    assert isinstance(orders[0], SteerTask)
    assert (orders[0].text, orders[0].by) == ("in German", "kim")
    body = (await http.get(task)).json()
    assert body["notes"][-1]["text"] == "in German"


async def test_retry_is_a_new_task_of_the_session(http, system, task):
    response = await http.post(f"{task}/retry", headers={"Idempotency-Key": "again"})
    assert response.json() == {
        "task": "again",
        "session": "s1",
        "events": "/v1/tasks/again/events",
        "retry_of": "t",
    }
    assert response.headers["location"] == "/v1/tasks/again"
    assert system.sent == [("retry", RetryTask(task="t", retry="again"))]
    assert (await http.post(f"{task}/retry")).json()["task"] != "again"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("task_ended", 409),
        ("unknown_task", 404),
        ("not_parked", 409),
        ("not_running", 409),
        ("not_failed", 409),
        ("superseded", 409),
        ("invalid_arguments", 422),
    ],
)
async def test_a_refusal_has_a_status(http, system, task, code, status, monkeypatch):
    async def refuse(*_: object) -> int:
        raise Permanent(code, "no")

    monkeypatch.setattr("tests.fakes.ingress_system.FakeTask.order", refuse)
    for verb, body in (("steer", {"text": "x"}), ("approve", {"step": 1}), ("retry", {})):
        response = await http.post(f"{task}/{verb}", json=body)
        assert (response.status_code, response.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    ("verb", "body", "field"),
    [
        ("steer", {}, "text"),
        ("steer", {"text": ""}, "text"),
        ("steer", {"text": 5}, "text"),
        ("approve", {"step": -1}, "step"),
        ("approve", {"step": "1"}, "step"),
        ("approve", {"arguments": "{}"}, "arguments"),
        ("approve", {"limits": {"max_steps": 0}}, "limits.max_steps"),
        ("approve", {"colour": "red"}, "colour"),
        ("reject", {"note": 1}, "note"),
        ("retry", {"by": 1}, "by"),
    ],
)
async def test_a_bad_body_names_the_field(http, task, verb, body, field):
    response = await http.post(f"{task}/{verb}", json=body)
    assert (response.status_code, response.json()["field"]) == (422, field)


@pytest.mark.parametrize("verb", ["steer", "approve", "reject", "retry"])
async def test_an_unknown_task_is_404(http, verb):
    body = {"text": "x"} if verb == "steer" else {}
    response = await http.post(f"/v1/tasks/nobody/{verb}", json=body)
    assert (response.status_code, response.json()["code"]) == (404, "unknown_task")


async def test_sessions_that_are_away(http, system, task):
    system.refuse = Transient("no_responders", "nobody answers")
    response = await http.post(f"{task}/steer", json={"text": "x"})
    assert (response.status_code, "retry-after" in response.headers) == (503, True)


async def test_a_step_that_is_tried_again_lists_its_tries(http, system, task):
    system.add(REF, f.Approved(task="t", step=1))
    system.add(REF, f.ToolFailed(**HERE, error=BUSY, retry=True))
    step = (await http.get(task)).json()["steps"][1]
    assert (step["state"], step["tries"], step["attempt"]) == ("failed", [], 1)
    assert (await http.get(task)).json()["totals"]["tool_steps"] == 0
    system.add(REF, f.ToolDone(**HERE, result="gone", attempt=2))
    system.add(REF, f.ToolFailed(**HERE, error=BUSY, attempt=3))
    step = (await http.get(task)).json()["steps"][1]
    assert (step["state"], step["attempt"], step["result"]) == ("done", 2, "gone")
    assert [(one["attempt"], one["error"]["code"]) for one in step["tries"]] == [(1, "busy")]


async def test_what_becomes_of_a_task_on_a_busy_session(http, system):
    ask = {"agent": "assistant", "input": "hi"}
    limits = {"max_cost": 7, "max_repeats": 2}
    await http.post("/v1/tasks", json=ask | {"on_busy": "interrupt", "limits": limits})
    assert system.orders[0].on_busy == "interrupt"
    assert system.orders[0].limits == LimitsPatch(max_cost=7, max_repeats=2)
    response = await http.post("/v1/tasks", json=ask | {"on_busy": "panic"})
    assert (response.status_code, response.json()["field"]) == (422, "on_busy")
