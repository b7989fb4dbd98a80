"""What a running system writes down of its requests, from the caller to the ledger and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.ingress_system import Ingress
from tests.integration.instant_system import instant_system

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]
TRACE = "0123456789abcdef" * 2
TRACED = {"traceparent": f"00-{TRACE}-{TRACE[:16]}-01"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ingress]:
    async with instant_system(tmp_path_factory.mktemp("usage")) as running:
        yield running


def chat(text: str, **more: object) -> dict[str, object]:
    return {"model": "default", "messages": [{"role": "user", "content": text}], **more}


async def recorded(front: Ingress, **query: str) -> dict[str, Any]:
    """The newest line of the request log that a query finds; it appears a moment later."""
    async with asyncio.timeout(20):
        while True:
            body = (await front.http.get("/v1/requests", params=query)).json()
            if body["requests"] and body["requests"][0]["status"] in ("completed", "failed"):
                line: dict[str, Any] = body["requests"][0]
                return line
            await asyncio.sleep(0.1)


async def test_a_completion_is_recorded_with_its_caller(front: Ingress) -> None:
    body = chat("steps 0", user="ada", metadata={"ticket": "7"})
    answer = await front.http.post("/v1/chat/completions", json=body, headers=TRACED)
    assert answer.status_code == 200, answer.text
    line = await recorded(front, kind="completion", status="completed")
    assert answer.json()["id"] == line["id"]
    assert (line["route"], line["model"], line["user"]) == ("default", "instant", "ada")
    assert (line["trace_id"], line["metadata"]["ticket"]) == (TRACE, "7")
    assert line["usage"]["output"] == answer.json()["usage"]["completion_tokens"]
    assert (await front.http.get(f"/v1/requests/{line['id']}")).json() == line


async def test_a_completion_that_a_worker_refuses_is_recorded_and_free(front: Ingress) -> None:
    before = (await front.http.get("/v1/usage?by=tenant")).json()["total"]["calls"]
    bad = chat("nothing that the instant model has an answer to", user="bob")
    answer = await front.http.post("/v1/chat/completions", json=bad)
    assert answer.status_code >= 400
    code = answer.json()["error"]["code"]
    line = await recorded(front, kind="completion", status="failed")
    assert (line["error_code"], line["user"]) == (code, "bob")
    assert (line["price"], line["usage"]["input"]) == (0, 0)
    after = (await front.http.get("/v1/usage?by=tenant")).json()["total"]["calls"]
    assert after == before


async def test_a_task_is_recorded_and_its_usage_is_the_sum_of_its_steps(front: Ingress) -> None:
    task = {"agent": "assistant", "input": "steps 2", "session": "u1", "metadata": {"user": "eve"}}
    done = await front.http.post("/v1/tasks", json=task, headers=TRACED | {"Prefer": "wait=30"})
    state = done.json()
    assert state["state"] == "completed", state
    session = (await front.http.get("/v1/sessions/u1")).json()
    query: dict[str, str] = {"by": "session,model", "session": "u1", "min_seq": session["seq"]}
    usage = (await front.http.get("/v1/usage", params=query)).json()
    (row,) = usage["rows"]
    assert (row["session"], row["calls"]) == ("u1", state["totals"]["infer_steps"])
    assert row["input_tokens"] == state["totals"]["usage"]["input"]
    assert row["latency"]["count"] == row["calls"]
    line = await recorded(front, session="u1")
    assert (line["id"], line["user"], line["trace_id"]) == (state["task"], "eve", TRACE)
    listed = (await front.http.get("/v1/tasks", params={"session": "u1"})).json()["tasks"]
    assert [one["task"] for one in listed] == [state["task"]]
    sessions = (await front.http.get("/v1/sessions", params={"state": "idle"})).json()["sessions"]
    assert "u1" in [one["session"] for one in sessions]
    other = await front.http.get("/v1/requests", headers={"X-Millrace-Tenant": "acme"})
    assert other.json()["requests"] == []
