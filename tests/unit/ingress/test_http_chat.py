"""`/v1/chat/completions`, `/v1/models` and `/v1/embeddings` over HTTP."""

import orjson
import pytest
from msgspec import structs

from shared.contracts.facts import Done, Inferred, Timings, ToolCall, Totals, Usage
from shared.contracts.tokens import DirectEvent, DirectResult
from shared.contracts.workers import WorkerState
from shared.errors import Failure, Transient
from tests.integration.waiting import go_when, until

ASK = {"model": "default", "messages": [{"role": "user", "content": "hi"}]}
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
URL = "/v1/chat/completions"
STREAM = ASK | {"stream": True}


def frames(response):
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else orjson.loads(line) for line in lines]


async def test_a_stateless_answer(http, system):
    system.script = ANSWER
    response = await http.post(URL, json=ASK)
    body = response.json()
    assert response.status_code == 200
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"] == "42"
    assert body["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    assert system.orders == []


async def test_a_stateless_stream_ends_with_done(http, system):
    system.script = ANSWER
    response = await http.post(
        URL, json=ASK | {"stream": True, "stream_options": {"include_usage": True}}
    )
    found = frames(response)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert found[0]["choices"][0]["delta"]["role"] == "assistant"
    assert found[-3]["choices"][0]["finish_reason"] == "stop"
    assert found[-2]["usage"]["total_tokens"] == 5
    assert found[-1] == "[DONE]"
    assert len({frame["id"] for frame in found[:-1]}) == 1


async def test_tool_calls_of_the_client(http, system):
    calls = (ToolCall(id="call_1", name="add", arguments="{}"),)
    result = structs.replace(RESULT, content="", tool_calls=calls, finish="tool_calls")
    system.script = [DirectEvent(done=result)]
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    choice = (await http.post(URL, json=ASK | {"tools": [tool]})).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["id"] == "call_1"
    assert system.requests[0].tools[0].name == "add"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unknown_model_is_404_before_any_stream(http, system, stream):
    system.script = [DirectEvent(error=Failure(code="unknown_route", detail="no x", field="model"))]
    response = await http.post(URL, json=ASK | {"stream": stream})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert response.json()["error"]["param"] == "model"


async def test_without_a_worker_it_is_503_with_retry_after(http, system):
    system.script = [Transient("no_responders", "no router runs", retry_after=1.0)]
    response = await http.post(URL, json=ASK)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


async def test_a_failure_in_the_stream_is_its_last_frame(http, system):
    system.script = [DirectEvent(text="4"), Transient("request_timeout", "silent")]
    found = frames(await http.post(URL, json=ASK | {"stream": True}))
    assert found[-1]["error"]["code"] == "request_timeout"
    assert "[DONE]" not in found


async def test_an_agent_runs_a_durable_task(http, system):
    system.plan = PLAN
    response = await http.post(
        URL, json=AGENT_ASK | {"temperature": 0.5, "metadata": {"session": "s1", "a": "b"}}
    )
    body = response.json()
    assert body["choices"][0]["message"]["content"] == "391"
    assert body["usage"]["total_tokens"] == 8
    order = system.orders[0]
    assert (order.ref.session, order.agent, order.input) == ("s1", "assistant", "hi")
    assert order.metadata == {"a": "b"}
    assert (order.sampling.temperature, order.sampling.max_tokens) == (0.5, 99)
    assert response.headers["millrace-session"] == "s1"
    assert body["millrace"] == {"task": order.task, "session": "s1"}


async def test_an_agents_stream(http, system):
    system.plan = PLAN
    found = frames(await http.post(URL, json=AGENT_ASK | {"stream": True}))
    said = "".join(f["choices"][0]["delta"].get("content", "") for f in found[:-1])
    assert said == "391"
    assert [f["choices"][0]["finish_reason"] for f in found[:-1]][-1] == "stop"
    assert found[-1] == "[DONE]"
    assert found[0]["millrace"]["session"] == system.orders[0].ref.session


async def test_the_second_message_of_a_session_sends_only_what_is_new(http, system):
    system.plan = PLAN
    ask = AGENT_ASK | {"metadata": {"session": "s1"}}
    await http.post(URL, json=ask)
    more = [*ask["messages"], {"role": "assistant", "content": "391"}]
    await http.post(URL, json=ask | {"messages": [*more, {"role": "user", "content": "again"}]})
    assert [order.input for order in system.orders] == ["hi", "again"]


async def test_a_key_makes_an_agents_completion_idempotent(http, system):
    system.plan = PLAN
    headers = {"Idempotency-Key": "k1"}
    first = await http.post(URL, json=AGENT_ASK, headers=headers)
    second = await http.post(URL, json=AGENT_ASK, headers=headers)
    assert len(system.orders) == 1
    assert first.json()["id"] == second.json()["id"]


async def test_a_failed_task_is_an_error(http, system):
    system.plan = [Done(task="", status="failed", error=Failure(code="step_limit", detail="24"))]
    response = await http.post(URL, json=AGENT_ASK)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "step_limit")


async def test_an_unknown_agent_is_404(http):
    response = await http.post(URL, json=ASK | {"model": "agent:nobody"})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_agent")


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"store": True}, 400, "store"),
        ({"n": 9}, 422, "n"),
        ({"top_logprobs": 21, "logprobs": True}, 422, "top_logprobs"),
        ({"frequency_penalty": 2.5}, 422, "frequency_penalty"),
        ({"logit_bias": {"x": 1}}, 422, "logit_bias.x"),
        ({"tool_choice": "sometimes"}, 422, "tool_choice"),
        ({"response_format": {"type": "xml"}}, 422, "response_format.type"),
        ({"messages": []}, 422, "messages"),
        ({"messages": "hi"}, 422, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 422, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 5}]}, 422, "messages.0.content"),
        ({"temperature": "hot"}, 422, "temperature"),
        ({"model": 5}, 422, "model"),
        ({"stop": [1]}, 422, "stop.0"),
        ({"model": "agent:assistant", "logprobs": True}, 400, "logprobs"),
    ],
)  # fmt: skip
async def test_a_bad_request_names_the_parameter(http, change, status, param):
    response = await http.post(URL, json=ASK | change)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, param)
    assert error["type"] == "invalid_request_error"
    assert error["trace_id"] == response.headers["x-trace-id"]


async def test_choices_are_as_many_completions(http, system):
    system.script = ANSWER
    body = (await http.post(URL, json=ASK | {"n": 2})).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert body["usage"]["prompt_tokens"] == 6
    assert len({request.id for request in system.requests}) == 2
    found = frames(await http.post(URL, json=ASK | {"n": 2, "stream": True}))
    for index in (0, 1):
        own = [f["choices"][0] for f in found[:-1] if f["choices"][0]["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(one["delta"].get("content", "") for one in own) == "42"
        assert own[-1]["finish_reason"] == "stop"
    assert found[-1] == "[DONE]"


async def test_the_fingerprint_of_the_first_event_is_on_everything(http, system):
    first = DirectEvent(text="42", fingerprint="fp_1")
    system.script = [first, DirectEvent(done=RESULT)]
    assert (await http.post(URL, json=ASK)).json()["system_fingerprint"] == "fp_1"
    found = frames(await http.post(URL, json=ASK | {"stream": True}))
    assert {frame["system_fingerprint"] for frame in found[:-1]} == {"fp_1"}


@pytest.mark.parametrize("n", [1, 3])
async def test_a_refused_demand_is_a_status_that_names_the_field(http, system, n):
    failure = Failure(code="unsupported_demand", detail="no", field="response_format")
    system.script = [DirectEvent(error=failure)]
    response = await http.post(URL, json=ASK | {"stream": True, "n": n})
    assert response.status_code == 422
    assert response.json()["error"]["param"] == "response_format"


async def test_a_client_that_goes_aborts_every_choice(http, system):
    system.script, system.hang = [DirectEvent(text="4")], True
    await go_when(lambda: len(system.requests) == 3, http.post(URL, json=STREAM | {"n": 3}))
    await until(lambda: system.aborted == 3)


async def test_a_client_that_goes_aborts_a_stateless_completion(http, system):
    system.script, system.hang = [DirectEvent(text="4")], True
    await go_when(lambda: len(system.requests) == 1, http.post(URL, json=STREAM))
    await until(lambda: system.aborted == 1)


async def test_models_are_routes_models_and_agents(http, system):
    system.alive = [WorkerState(worker="w", model="nano", engine="openvino", slots=4, started=9.5)]
    body = (await http.get("/v1/models")).json()
    assert [model["id"] for model in body["data"]] == ["default", "nano", "agent:assistant"]
    assert (await http.get("/v1/models/agent:assistant")).json()["owned_by"] == "millrace:agent"
    missing = await http.get("/v1/models/none")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


async def test_embeddings(http):
    ask = {"model": "all-MiniLM-L6-v2", "input": ["a", "bcd"]}
    body = (await http.post("/v1/embeddings", json=ask)).json()
    assert [one["embedding"] for one in body["data"]] == [[1.0, 0.5], [3.0, 0.5]]
    packed = (await http.post("/v1/embeddings", json=ask | {"encoding_format": "base64"})).json()
    assert packed["data"][0]["embedding"] == "AACAPwAAAD8="
    wrong = await http.post("/v1/embeddings", json=ask | {"model": "other"})
    assert wrong.status_code == 404
