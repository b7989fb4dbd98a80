"""`/v1/tasks` and `/v1/sessions` over HTTP."""

import asyncio

import orjson
import pytest

from shared.contracts.base import SessionRef
from shared.contracts.facts import Done, Inferred
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Transient

ASK = {"agent": "assistant", "input": "What is 17 * 23?"}
PLAN = [
    Inferred(task="", step=0, content="391", cuts=(1, 3)),
    Done(task="", status="completed", output="391"),
]
REF = SessionRef("default", "s1")


def events(response):
    found = []
    for block in response.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in fields:
            found.append((fields.get("id"), fields.get("event"), orjson.loads(fields["data"])))
    return found


async def test_submit_answers_202_at_once(http, system):
    response = await http.post(
        "/v1/tasks", json=ASK | {"session": "s1", "limits": {"max_steps": 3}}
    )
    body = response.json()
    assert response.status_code == 202
    assert body == {
        "task": system.orders[0].task,
        "session": "s1",
        "events": f"/v1/tasks/{body['task']}/events",
    }
    assert response.headers["location"] == f"/v1/tasks/{body['task']}"
    assert system.orders[0].limits.max_steps == 3


async def test_the_trace_of_the_request_is_the_trace_of_the_task(http, system):
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    response = await http.post("/v1/tasks", json=ASK, headers=headers)
    assert response.headers["x-trace-id"] == trace
    assert system.traces == [trace]


@pytest.mark.parametrize(
    "header", ["nonsense", f"00-{'0' * 32}-b7ad6b7169203331-01", f"00-{'ab' * 16}-{'0' * 16}-01"]
)
async def test_a_context_that_is_none_begins_a_trace_of_its_own(http, system, header):
    response = await http.post("/v1/tasks", json=ASK, headers={"traceparent": header})
    trace = response.headers["x-trace-id"]
    assert system.traces == [trace]
    assert len(trace) == 32
    assert trace not in header
    assert response.headers["traceparent"].startswith(f"00-{trace}-")


async def test_a_key_names_the_task(http, system):
    headers = {"Idempotency-Key": "order-1"}
    first = await http.post("/v1/tasks", json=ASK, headers=headers)
    second = await http.post("/v1/tasks", json=ASK, headers=headers)
    third = await http.post("/v1/tasks", json=ASK | {"idempotency_key": "order-1"})
    assert first.json() == second.json() == third.json()
    assert first.json()["task"] == "order-1"
    assert len(system.orders) == 1


async def test_a_key_of_another_session_is_a_conflict(http):
    headers = {"Idempotency-Key": "order-1"}
    await http.post("/v1/tasks", json=ASK, headers=headers)
    response = await http.post("/v1/tasks", json=ASK | {"session": "other"}, headers=headers)
    assert (response.status_code, response.json()["code"]) == (409, "idempotency_conflict")


async def test_two_keys_that_differ_are_refused(http):
    response = await http.post(
        "/v1/tasks", json=ASK | {"idempotency_key": "a"}, headers={"Idempotency-Key": "b"}
    )
    assert (response.status_code, response.json()["field"]) == (422, "idempotency_key")


async def test_prefer_wait_answers_with_the_result(http, system):
    system.plan = PLAN
    response = await http.post("/v1/tasks", json=ASK, headers={"Prefer": "wait=5"})
    body = response.json()
    assert (response.status_code, body["state"], body["output"]) == (200, "completed", "391")
    assert response.headers["preference-applied"] == "wait=5"


async def test_prefer_wait_that_is_over_answers_202(http):
    response = await http.post("/v1/tasks", json=ASK, headers={"Prefer": "wait=0"})
    assert response.status_code == 202


async def test_state_output_and_steps(http, system):
    system.plan = PLAN
    task = (await http.post("/v1/tasks", json=ASK)).json()["task"]
    body = (await http.get(f"/v1/tasks/{task}")).json()
    assert (body["state"], body["output"], body["agent"]) == ("completed", "391", "assistant")
    assert body["steps"][0]["content"] == "391"


async def test_events_have_ids_names_and_data_and_end_with_done(http, system):
    system.plan = PLAN
    task = (await http.post("/v1/tasks", json=ASK)).json()["task"]
    found = events(await http.get(f"/v1/tasks/{task}/events"))
    assert [kind for _, kind, _ in found] == ["task", "delta", "delta", "inferred", "done"]
    assert [data["text"] for _, kind, data in found if kind == "delta"] == ["3", "91"]
    assert all(data["task"] == task for _, _, data in found)
    assert found[-1][0] == "3"


@pytest.mark.parametrize("by_header", [True, False])
async def test_events_resume_after_any_id(http, system, by_header):
    system.plan = PLAN
    task = (await http.post("/v1/tasks", json=ASK)).json()["task"]
    url = f"/v1/tasks/{task}/events"
    whole = events(await http.get(url))
    for at, (cursor, _, _) in enumerate(whole[:-1]):
        if by_header:
            response = await http.get(url, headers={"Last-Event-ID": cursor})
        else:
            response = await http.get(url, params={"after": cursor})
        assert events(response) == whole[at + 1 :]


async def test_nothing_comes_after_done(http, system):
    system.plan = PLAN
    task = (await http.post("/v1/tasks", json=ASK)).json()["task"]
    response = await http.get(f"/v1/tasks/{task}/events", headers={"Last-Event-ID": "3"})
    assert response.status_code == 204


async def test_an_event_id_that_is_not_ours_is_refused(http, system):
    task = (await http.post("/v1/tasks", json=ASK)).json()["task"]
    response = await http.get(f"/v1/tasks/{task}/events", params={"after": "nonsense"})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_cursor")


async def test_events_that_break_off_say_why(http, system):
    task = (await http.post("/v1/tasks", json=ASK)).json()["task"]
    request = asyncio.create_task(http.get(f"/v1/tasks/{task}/events"))
    await asyncio.sleep(0.3)
    system.refuse = Transient("bus_unavailable", "gone")
    system.changed.set()
    assert events(await request)[-1][1:] == ("error", events(request.result())[-1][2])
    assert events(request.result())[-1][2]["code"] == "bus_unavailable"


async def test_a_viewer_that_goes_does_not_stop_the_task(http, system):
    task = (await http.post("/v1/tasks", json=ASK | {"session": "s1"})).json()["task"]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await http.get(f"/v1/tasks/{task}/events")
    assert [stored.kind for stored in system.log] == ["task"]
    system.add(REF, Done(task=task, status="completed", output="later"))
    assert (await http.get(f"/v1/tasks/{task}")).json()["output"] == "later"


@pytest.mark.usefixtures("quick_heart")
async def test_a_silent_stream_has_heartbeats(http, system):
    task = (await http.post("/v1/tasks", json=ASK | {"session": "s1"})).json()["task"]
    request = asyncio.create_task(http.get(f"/v1/tasks/{task}/events"))
    await asyncio.sleep(0.6)
    system.add(REF, Done(task=task, status="completed"))
    text = (await request).text
    assert text.count(": ping\n\n") >= 2
    assert [kind for _, kind, _ in events(request.result())] == ["task", "done"]


async def test_cancel_records_who_and_why(http, system):
    task = (await http.post("/v1/tasks", json=ASK)).json()["task"]
    response = await http.post(f"/v1/tasks/{task}/cancel", json={"by": "me", "reason": "enough"})
    assert (response.status_code, response.json()["sequence"]) == (202, 2)
    assert system.log[-1].fact.reason == "enough"
    assert (await http.post(f"/v1/tasks/{task}/cancel")).status_code == 202


async def test_cancel_after_the_end_is_a_conflict(http, system):
    system.plan = PLAN
    task = (await http.post("/v1/tasks", json=ASK)).json()["task"]
    response = await http.post(f"/v1/tasks/{task}/cancel")
    assert (response.status_code, response.json()["code"]) == (409, "task_ended")


async def test_a_session_and_its_history(http, system):
    system.plan = PLAN
    await http.post("/v1/tasks", json=ASK | {"session": "s1"})
    view = (await http.get("/v1/sessions/s1")).json()
    assert (view["state"], len(view["tasks"])) == ("idle", 1)
    first = (await http.get("/v1/sessions/s1/history", params={"limit": 2})).json()
    rest = (await http.get("/v1/sessions/s1/history", params={"after": first["next"]})).json()
    kinds = [fact["kind"] for fact in first["facts"] + rest["facts"]]
    assert kinds == ["task", "inferred", "done"]
    assert rest["next"] is None


async def test_tenants_do_not_see_each_other(http, system):
    acme = {"X-Millrace-Tenant": "acme"}
    system.add(REF, TaskSubmitted(input="secret"), "t1", "assistant")
    assert (await http.get("/v1/tasks/t1", headers=acme)).status_code == 404
    assert (await http.get("/v1/sessions/s1", headers=acme)).status_code == 404
    await http.post("/v1/tasks", json=ASK, headers=acme)
    assert system.orders[0].ref.tenant == "acme"
    bad = await http.get("/v1/tasks/t1", headers={"X-Millrace-Tenant": "a.b"})
    assert (bad.status_code, bad.json()["field"]) == (422, "X-Millrace-Tenant")


@pytest.mark.parametrize(
    ("change", "status", "code", "field"),
    [
        ({"agent": "nobody"}, 404, "unknown_agent", "agent"),
        ({"agent": "a b"}, 422, "invalid_name", "agent"),
        ({"session": "a.b"}, 422, "invalid_name", "session"),
        ({"session": 5}, 422, "invalid_request", "session"),
        ({"input": ""}, 422, "invalid_request", "input"),
        ({"input": [{"role": "user"}]}, 422, "invalid_request", "input.0.content"),
        ({"limits": {"max_steps": 0}}, 422, "invalid_request", "limits.max_steps"),
        ({"limits": {"steps": 1}}, 422, "invalid_request", "limits.steps"),
        ({"metadata": {"a": 1}}, 422, "invalid_request", "metadata.a"),
        ({"colour": "red"}, 422, "invalid_request", "colour"),
    ],
)
async def test_a_bad_task_names_the_field(http, change, status, code, field):
    response = await http.post("/v1/tasks", json=ASK | change)
    body = response.json()
    assert (response.status_code, body["code"], body["field"]) == (status, code, field)
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["", "/events", "/cancel"])
async def test_an_unknown_task_is_404(http, path):
    method = "POST" if path == "/cancel" else "GET"
    response = await http.request(method, f"/v1/tasks/nobody{path}")
    assert (response.status_code, response.json()["code"]) == (404, "unknown_task")
