"""`/v1/messages` over HTTP: answers, streams, errors in Anthropic's shape, its list of models."""

import asyncio

import orjson
import pytest
from msgspec import structs

from shared.contracts.facts import Done, Inferred, Timings, ToolCall, Totals, Usage
from shared.contracts.tokens import DirectEvent, DirectResult
from shared.contracts.workers import WorkerState
from shared.errors import Failure, Permanent, Transient
from tests.integration.waiting import go_when, until

URL = "/v1/messages"
VERSION = {"anthropic-version": "2023-06-01"}
ASK = {"model": "default", "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]}
AGENT_ASK = ASK | {"model": "agent:assistant"}
RESULT = DirectResult(
    content="42",
    tool_calls=(),
    finish="stop",
    usage=Usage(input=3, output=2),
    model="nano",
    worker="w",
    timings=Timings(),
)
ANSWER = [DirectEvent(text="4"), DirectEvent(text="2"), DirectEvent(done=RESULT)]
PLAN = [
    Inferred(task="", step=0, content="391", cuts=(1, 3), usage=Usage(input=5, output=3)),
    Done(task="", status="completed", output="391", totals=Totals(usage=Usage(input=5, output=3))),
]


def events(response):
    """The events of a stream; each one's name is its type."""
    found = []
    for frame in response.text.strip().split("\n\n"):
        name, data = frame.splitlines()
        body = orjson.loads(data.removeprefix("data: "))
        assert name == f"event: {body['type']}"
        found.append(body)
    return found


async def test_a_stateless_answer(http, system):
    system.script = ANSWER
    response = await http.post(URL, json=ASK, headers=VERSION)
    body = response.json()
    assert response.status_code == 200
    assert body["content"] == [{"type": "text", "text": "42"}]
    assert (body["type"], body["role"], body["stop_reason"]) == ("message", "assistant", "end_turn")
    assert body["usage"]["input_tokens"] == 3
    assert response.headers["request-id"] == response.headers["x-trace-id"]
    assert body["id"] == system.requests[0].id
    assert system.orders == []


async def test_a_stateless_stream(http, system):
    system.script = ANSWER
    response = await http.post(URL, json=ASK | {"stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["request-id"] == response.headers["x-trace-id"]
    assert [event["type"] for event in events(response)] == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


async def test_calls_of_the_clients_tools(http, system):
    calls = (ToolCall(id="call_1", name="add", arguments='{"a": 1}'),)
    result = structs.replace(RESULT, content="", tool_calls=calls, finish="tool_calls")
    system.script = [DirectEvent(done=result)]
    tool = {"name": "add", "input_schema": {"type": "object"}}
    body = (await http.post(URL, json=ASK | {"tools": [tool]})).json()
    use = {"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}}
    assert (body["stop_reason"], body["content"]) == ("tool_use", [use])


async def test_the_size_of_a_prompt(http, system):
    counted = structs.replace(RESULT, content="", usage=Usage(input=17))
    system.script = [DirectEvent(done=counted)]
    ask = {name: value for name, value in ASK.items() if name != "max_tokens"}
    response = await http.post(f"{URL}/count_tokens", json=ask)
    assert response.json() == {"input_tokens": 17}
    assert system.requests[0].count_only


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (Permanent("invalid_request", "no", field="messages"), 400, "invalid_request_error"),
        (Permanent("context_too_long", "no", field="messages"), 400, "invalid_request_error"),
        (Permanent("unknown_route", "no"), 404, "not_found_error"),
        (Permanent("payload_too_large", "no"), 413, "request_too_large"),
        (Transient("rate_limited", "no"), 429, "rate_limit_error"),
        (Transient("no_responders", "no"), 503, "overloaded_error"),
        (Transient("request_timeout", "no"), 504, "timeout_error"),
        (RuntimeError("a bug"), 500, "api_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors_take_anthropics_shape(http, system, error, status, kind, stream):
    system.script = [error]
    response = await http.post(URL, json=ASK | {"stream": stream})
    body = response.json()
    assert (response.status_code, body["type"], body["error"]["type"]) == (status, "error", kind)
    assert body["error"]["message"]
    assert body["request_id"] == body["error"]["trace_id"] == response.headers["request-id"]


@pytest.mark.parametrize(
    ("ask", "status", "code", "param"),
    [
        (ASK | {"max_tokens": 0}, 400, "invalid_request", "max_tokens"),
        (ASK | {"thinking": {"type": "enabled"}}, 400, "invalid_request", "thinking.budget_tokens"),
        (AGENT_ASK | {"model": "agent:nobody"}, 404, "unknown_agent", "model"),
    ],
)
async def test_a_refusal_has_a_stable_code_and_names_the_field(http, ask, status, code, param):
    response = await http.post(URL, json=ask)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param)


async def test_a_body_that_is_no_json_or_too_long(http):
    kind = {"Content-Type": "application/json"}
    broken = await http.post(URL, content=b"{", headers=kind)
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "invalid_json")
    long = await http.post(URL, content=b" " * 5000, headers=kind)
    assert (long.status_code, long.json()["error"]["type"]) == (413, "request_too_large")


async def test_a_failure_in_the_stream_is_its_last_event(http, system):
    system.script = [DirectEvent(text="4"), Transient("request_timeout", "silent")]
    found = events(await http.post(URL, json=ASK | {"stream": True}))
    assert found[-1]["type"] == "error"
    assert found[-1]["error"]["code"] == "request_timeout"
    assert "message_stop" not in [event["type"] for event in found]


async def test_an_agent_runs_a_durable_task(http, system):
    system.plan = PLAN
    ask = AGENT_ASK | {"temperature": 0.5, "metadata": {"user_id": "ada"}}
    response = await http.post(URL, json=ask, headers={"Millrace-Session": "s1"})
    body = response.json()
    order = system.orders[0]
    assert body["content"] == [{"type": "text", "text": "391"}]
    assert (order.ref.session, order.agent, order.input) == ("s1", "assistant", "hi")
    assert (order.metadata, order.sampling.max_tokens) == ({"user": "ada"}, 20)
    assert body["millrace"] == {"task": order.task, "session": "s1"}
    assert response.headers["millrace-task"] == order.task
    assert response.headers["millrace-session"] == "s1"


async def test_an_agents_stream_adds_up_to_its_answer(http, system):
    system.plan = PLAN
    found = events(await http.post(URL, json=AGENT_ASK | {"stream": True}))
    said = [event["delta"]["text"] for event in found if event["type"] == "content_block_delta"]
    assert "".join(said) == "391"
    assert found[-2]["usage"]["output_tokens"] == 3


async def test_a_repeated_key_finds_the_first_task(http, system):
    system.plan = PLAN
    headers = {"Idempotency-Key": "k1"}
    first = await http.post(URL, json=AGENT_ASK, headers=headers)
    again = await http.post(URL, json=AGENT_ASK, headers=headers)
    assert first.json()["millrace"] == again.json()["millrace"]
    assert len(system.orders) == 1
    other = await http.post(URL, json=AGENT_ASK, headers=headers | {"Millrace-Session": "s2"})
    assert (other.status_code, other.headers["x-should-retry"]) == (409, "false")


@pytest.mark.parametrize(("ask", "name"), [(ASK, "s1"), (AGENT_ASK, "a.b"), (AGENT_ASK, "")])
async def test_a_session_is_for_an_agent_and_has_a_name(http, system, ask, name):
    response = await http.post(URL, json=ask, headers={"Millrace-Session": name})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "Millrace-Session")


@pytest.mark.usefixtures("quick_heart")
async def test_a_silent_stream_has_pings(http, system):
    system.script, system.gate = ANSWER, asyncio.Event()
    request = asyncio.create_task(http.post(URL, json=ASK | {"stream": True}))
    await asyncio.sleep(0.6)
    system.gate.set()
    kinds = [event["type"] for event in events(await request)]
    assert kinds.count("ping") >= 2
    assert kinds[-1] == "message_stop"


async def test_a_client_that_goes_aborts_a_stateless_message(http, system):
    system.script, system.hang = [DirectEvent(text="4")], True
    await go_when(lambda: system.requests, http.post(URL, json=ASK | {"stream": True}))
    await until(lambda: system.aborted == 1)


async def test_models_for_anthropics_clients(http, system):
    system.alive = [WorkerState(worker="w", model="nano", engine="openvino", slots=4, started=9.5)]
    first = (await http.get("/v1/models", params={"limit": 2}, headers=VERSION)).json()
    assert first["data"][1] == {
        "type": "model",
        "id": "nano",
        "display_name": "nano",
        "created_at": "1970-01-01T00:00:09Z",
    }
    assert (first["has_more"], first["first_id"], first["last_id"]) == (True, "default", "nano")
    rest = await http.get("/v1/models", params={"after_id": "nano"}, headers=VERSION)
    assert [model["id"] for model in rest.json()["data"]] == ["agent:assistant"]
    assert not rest.json()["has_more"]
    back = await http.get(
        "/v1/models", params={"before_id": "agent:assistant", "limit": 1}, headers=VERSION
    )
    assert [model["id"] for model in back.json()["data"]] == ["nano"]
    assert back.json()["has_more"]


async def test_one_model_for_anthropics_clients(http):
    found = await http.get("/v1/models/agent:assistant", headers=VERSION)
    assert found.json()["created_at"] == "1970-01-01T00:00:00Z"
    missing = await http.get("/v1/models/none", headers=VERSION)
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
    page = await http.get("/v1/models", params={"after_id": "none"}, headers=VERSION)
    assert (page.status_code, page.json()["error"]["param"]) == (400, "after_id")


async def test_without_the_header_models_are_openais(http):
    assert (await http.get("/v1/models")).json()["object"] == "list"
    missing = await http.get("/v1/models/none")
    assert missing.json()["error"]["type"] == "invalid_request_error"


async def test_a_refusal_of_the_router_comes_before_the_stream(http, system):
    system.script = [DirectEvent(error=Failure(code="unknown_route", detail="no x", field="model"))]
    response = await http.post(URL, json=ASK | {"stream": True})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
