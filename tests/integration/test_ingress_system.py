"""HTTP in, answers out: the ingress process before real services and the embedded model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import openai
import orjson
import pytest
import pytest_asyncio

from tests.integration.ingress_system import Ingress, ingress, whole_system
from tests.integration.waiting import until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
]
SERVICES = ("sessions", "router", "inference", "tools")
ASK = {"agent": "plain", "input": "Hello"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ingress]:
    async with whole_system(tmp_path_factory.mktemp("ingress"), SERVICES) as running:
        await running.ready("retrieval", "ledger")
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(front: Ingress) -> AsyncIterator[openai.AsyncOpenAI]:
    http = httpx.AsyncClient(trust_env=False)
    async with openai.AsyncOpenAI(
        base_url=f"{front.url}/v1", api_key="unused", max_retries=0, http_client=http
    ) as client:
        yield client


def read(text: str) -> list[tuple[str, str, dict[str, object]]]:
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in fields:
            found.append((fields["id"], fields["event"], orjson.loads(fields["data"])))
    return found


async def test_readiness_names_only_what_was_not_started(front):
    assert (await front.http.get("/readyz")).json()["missing"] == ["retrieval", "ledger"]


async def test_a_stateless_completion_by_openais_client(client):
    answer = await client.chat.completions.create(
        model="default", messages=[{"role": "user", "content": "Hello"}], max_tokens=16
    )
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.completion_tokens > 0


async def test_a_stream_says_what_the_whole_answer_says(client):
    ask = {
        "model": "nano",
        "messages": [{"role": "user", "content": "Hello"}],
        "temperature": 0,
        "max_tokens": 16,
    }
    whole = await client.chat.completions.create(**ask)
    stream = await client.chat.completions.create(
        **ask, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


async def test_an_agent_keeps_its_session(front, client):
    ask = {"model": "agent:plain", "metadata": {"session": "talk"}}
    first = await client.chat.completions.create(
        **ask, messages=[{"role": "user", "content": "Hello"}]
    )
    stream = await client.chat.completions.create(
        **ask, messages=[{"role": "user", "content": "Hello again"}], stream=True
    )
    said = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    view = (await front.http.get("/v1/sessions/talk")).json()
    states = [(one["state"], one["agent"]) for one in view["tasks"]]
    assert states == [("completed", "plain")] * 2
    last = (await front.http.get(f"/v1/tasks/{view['tasks'][1]['task']}")).json()
    assert (last["input"], last["output"]) == ("Hello again", said)
    assert first.choices[0].message.content


async def test_an_agent_with_tools_streams_only_what_it_says(front, client):
    """Its tools run on our side: the client sees the words, the task's state shows the calls."""
    stream = await client.chat.completions.create(
        model="agent:calculator",
        messages=[{"role": "user", "content": "What is 17 * 23?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    state = (await front.http.get(f"/v1/tasks/{chunks[0].millrace['task']}")).json()
    assert "tool" in [step["kind"] for step in state["steps"]]
    assert not any(delta.tool_calls for delta in deltas)
    assert "".join(delta.content or "" for delta in deltas) == state["output"]
    assert chunks[-1].usage.prompt_tokens == state["totals"]["usage"]["input"]


async def test_models_and_errors_as_openais_client_sees_them(client):
    names = [model.id async for model in client.models.list()]
    assert {"default", "nano", "agent:plain"} <= set(names)
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(
            model="none", messages=[{"role": "user", "content": "Hello"}]
        )
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(
            model="nano", messages=[{"role": "user", "content": "Hello"}], store=True
        )
    assert refused.value.param == "store"


async def test_events_resume_at_another_replica_after_any_id(front):
    answer = await front.http.post("/v1/tasks", json=ASK, headers={"Prefer": "wait=60"})
    assert answer.json()["state"] == "completed"
    path = answer.json()["events"]
    whole = read((await front.http.get(path)).text)
    assert [whole[0][1], whole[-1][1]] == ["task", "done"]
    text = "".join(str(data["text"]) for _, kind, data in whole if kind == "delta")
    assert text == answer.json()["output"]
    assert front.system is not None
    async with ingress(front.system.data) as other:
        await other.ready("retrieval", "ledger")
        for at in range(0, len(whole) - 1, max(1, len(whole) // 6)):
            rest = await other.http.get(path, headers={"Last-Event-ID": whole[at][0]})
            assert [one[0] for one in read(rest.text)] == [one[0] for one in whole[at + 1 :]]
        end = await other.http.get(path, headers={"Last-Event-ID": whole[-1][0]})
        assert end.status_code == 204


async def test_a_task_is_found_and_its_key_remembered(front):
    headers = {"Idempotency-Key": "order/1"}
    first = await front.http.post("/v1/tasks", json=ASK, headers=headers)
    task = first.json()["task"]
    assert (await front.http.get(f"/v1/tasks/{task}")).status_code == 200
    done = await front.http.post("/v1/tasks", json=ASK, headers=headers | {"Prefer": "wait=60"})
    assert (done.status_code, done.json()["task"]) == (200, task)
    late = await front.http.post(f"/v1/tasks/{task}/cancel")
    assert (late.status_code, late.json()["code"]) == (409, "task_ended")
    history = (await front.http.get(f"/v1/sessions/{done.json()['session']}/history")).json()
    assert [fact["kind"] for fact in history["facts"]].count("task") == 1


async def test_a_key_stands_for_one_body_at_every_replica(front):
    """Also where two requests race: one of them is the task, the other is told."""
    assert front.system is not None
    headers = {"Idempotency-Key": "order/2"}
    async with ingress(front.system.data) as other:
        await other.ready("retrieval", "ledger")
        raced = await asyncio.gather(
            front.http.post("/v1/tasks", json=ASK, headers=headers),
            other.http.post("/v1/tasks", json=ASK | {"input": "Goodbye"}, headers=headers),
        )
        assert sorted(answer.status_code for answer in raced) == [202, 409]
        refused = next(answer for answer in raced if answer.status_code == 409).json()
        assert (refused["code"], refused["field"]) == ("idempotency_conflict", "idempotency_key")
        task = next(answer for answer in raced if answer.status_code == 202).json()
        said = (await front.http.get(f"/v1/tasks/{task['task']}")).json()["input"]
        for replica in (front, other):
            for words in ("Hello", "Goodbye"):
                again = await replica.http.post(
                    "/v1/tasks", json=ASK | {"input": words}, headers=headers
                )
                assert again.status_code == (202 if words == said else 409)


async def test_a_key_stands_for_one_session_at_every_replica(front):
    """The same words for two sessions are two requests, whichever of them comes first."""
    assert front.system is not None
    headers = {"Idempotency-Key": "order/3"}
    async with ingress(front.system.data) as other:
        await other.ready("retrieval", "ledger")
        raced = await asyncio.gather(
            front.http.post("/v1/tasks", json=ASK | {"session": "left"}, headers=headers),
            other.http.post("/v1/tasks", json=ASK | {"session": "right"}, headers=headers),
        )
        assert sorted(answer.status_code for answer in raced) == [202, 409]
        won = next(answer for answer in raced if answer.status_code == 202).json()
        for replica in (front, other):
            again = await replica.http.post(
                "/v1/tasks", json=ASK | {"session": won["session"]}, headers=headers
            )
            assert again.json() == won
            steered = await replica.http.post(
                f"/v1/tasks/{won['task']}/steer", json={"text": "Go on."}, headers=headers
            )
            assert (steered.status_code, steered.json()["code"]) == (409, "idempotency_conflict")


async def test_a_viewer_that_goes_leaves_the_task_alone(front):
    task = (await front.http.post("/v1/tasks", json=ASK)).json()
    async with front.http.stream("GET", task["events"]) as response:
        async for _ in response.aiter_bytes():
            break
    events = (await front.http.get(task["events"])).text
    assert read(events)[-1][1] == "done"
    assert (await front.http.get(f"/v1/tasks/{task['task']}")).json()["state"] == "completed"


async def test_documents_are_stored_without_the_index(front):
    url = "/v1/collections/handbook/documents/guide%2Fone.md"
    put = await front.http.put(url, json={"text": "Opens at nine."})
    assert put.json()["sequence"] > 0
    assert (await front.http.get(url)).json()["text"] == "Opens at nine."
    listed = (await front.http.get("/v1/collections/handbook/documents")).json()
    assert listed["documents"] == ["guide/one.md"]
    search = await front.http.post("/v1/collections/handbook/search", json={"query": "nine"})
    assert (search.status_code, search.json()["code"]) == (503, "no_responders")
    assert (await front.http.delete(url)).status_code == 200
    assert (await front.http.get(url)).status_code == 404


async def test_what_is_larger_than_a_message_passes(front):
    """Three megabytes of document, two of conversation: the model is what it is too long for."""
    url = "/v1/collections/handbook/documents/long.md"
    text = "The wheel turns. " * 180_000
    assert (await front.http.put(url, json={"text": text})).status_code == 200
    assert (await front.http.get(url)).json()["text"] == text
    assert (await front.http.delete(url)).status_code == 200
    ask = {"model": "nano", "messages": [{"role": "user", "content": text[:2_000_000]}]}
    answer = await front.http.post("/v1/chat/completions", json=ask)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "context_too_long")
    task = ASK | {"input": text[:2_000_000], "agent": "plain"}
    ended = await front.http.post("/v1/tasks", json=task, headers={"Prefer": "wait=60"})
    assert ended.json()["error"]["code"] == "context_too_long"
    assert len(ended.json()["input"]) == 2_000_000


async def test_a_schedule_submits_its_task(front):
    body = ASK | {"session": "scheduled", "every_s": 1}
    assert (await front.http.put("/v1/schedules/tick", json=body)).status_code == 200

    async def begun() -> bool:
        return (await front.http.get("/v1/sessions/scheduled")).status_code == 200

    await until(begun, every=0.2)
    view = await front.http.get("/v1/sessions/scheduled")
    shown = (await front.http.get("/v1/schedules/tick")).json()
    assert shown["last"] < shown["next"]
    assert (await front.http.delete("/v1/schedules/tick")).status_code == 200
    assert view.json()["tasks"][0]["task"].startswith("tick-")
    bad = await front.http.put("/v1/schedules/tick", json=ASK | {"cron": "61 * * * *"})
    assert (bad.status_code, bad.json()["field"]) == (422, "cron")


async def test_a_fork_over_http(front):
    wait = {"Prefer": "wait=60"}
    first = (
        await front.http.post("/v1/tasks", json=ASK | {"session": "origin"}, headers=wait)
    ).json()
    made = await front.http.post("/v1/sessions/origin/fork", json={"at": "0", "session": "branch"})
    assert made.status_code == 202, made.text
    assert made.json()["task"] == first["task"]
    async with front.http.stream("GET", made.json()["events"]) as response:
        seen = read((await response.aread()).decode())
    assert [kind for _, kind, _ in seen if kind != "delta"] == [
        "task",
        "accepted",
        "forked",
        "inferred",
        "done",
    ]
    taken = await front.http.post("/v1/sessions/origin/fork", json={"at": "0", "session": "origin"})
    assert (taken.status_code, taken.json()["code"]) == (409, "session_exists")
    nowhere = await front.http.post("/v1/sessions/origin/fork", json={"at": "9"})
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "unknown_step")
    page = (await front.http.get("/v1/sessions/branch/history?after=999999999")).json()
    assert page["facts"] == []
