"""Limits of a running system with two replicas: tokens of tasks, streams, money, and its log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import orjson
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect

from shared.client import Millrace
from shared.contracts.keys import Allowance, NewKey
from shared.keys import Keys
from tests.integration.ingress_system import Ingress, ingress
from tests.integration.instant_system import instant_system
from tests.integration.waiting import until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]
MODELS = """
models:
  instant:
    {engine: openvino, path: ".", context: 16384, concurrency: 256, prices: {output: "10"}}
routes: {default: [instant]}
embeddings: {all-MiniLM-L6-v2: {input: "5"}}
"""
TOKEN = 1000
"""What a token of an answer costs; one of an embedding costs half of it."""


@dataclass
class Running:
    """Two replicas that ask for keys, and the operator's side of them."""

    data: Path
    fronts: list[Ingress]
    client: Millrace
    headers: dict[str, str] = field(default_factory=dict)

    async def key(self, tenant: str, **allowed: int) -> str:
        """The headers of a new key that every replica knows."""
        order = NewKey(allowance=Allowance(**allowed))
        issued = await Keys(self.client.bus, tenant).create(order)
        for front in range(len(self.fronts)):

            async def known(front: int = front) -> bool:
                answer = await self.ask(front, issued.secret, "GET", "/v1/models")
                return answer.status_code == 200

            await until(known)
        return issued.secret

    async def listening(self, key: str) -> None:
        """Return once every replica hears what the work of a key costs."""
        for front in range(len(self.fronts)):

            async def so(front: int = front) -> bool:
                return (await self.chat(front, key)).status_code == 200

            await until(so)

    async def ask(
        self, front: int, key: str, method: str, path: str, **more: Any
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"} | more.pop("headers", {})
        return await self.fronts[front].http.request(method, path, headers=headers, **more)

    async def chat(self, front: int, key: str, tokens: int = 1) -> httpx.Response:
        return await self.ask(front, key, "POST", "/v1/chat/completions", json=body(tokens))

    async def refused_everywhere(self, key: str, code: str) -> None:
        """Return once no replica begins new work."""
        for front in range(len(self.fronts)):

            async def so(front: int = front) -> bool:
                answer = await self.chat(front, key)
                return answer.status_code == 429 and answer.json()["error"]["code"] == code

            await until(so)

    async def used_up(self, key: str) -> None:
        """Return once no token is left at any replica; to look costs none."""
        for front in range(len(self.fronts)):

            async def so(front: int = front) -> bool:
                answer = await self.ask(front, key, "GET", "/v1/models")
                return answer.headers["x-ratelimit-remaining-tokens"] == "0"

            await until(so)

    async def line(self, key: str, **query: Any) -> dict[str, Any]:
        """The newest line of the request log; it appears a moment later."""
        found: list[dict[str, Any]] = []

        async def there() -> bool:
            answer = await self.ask(1, key, "GET", "/v1/requests", params=query)
            found[:] = answer.json()["requests"]
            return bool(found)

        await until(there, every=0.1)
        return found[0]


def body(tokens: int, **more: object) -> dict[str, object]:
    message = {"role": "user", "content": f"say {tokens}"}
    return {"model": "default", "messages": [message], "max_tokens": tokens, **more}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    data = tmp_path_factory.mktemp("limits")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(instant_system(data, models=MODELS))
        fronts = [
            await stack.enter_async_context(ingress(data, MILLRACE_AUTH="keys")) for _ in range(2)
        ]
        client = await stack.enter_async_context(Millrace.connect(data=data))
        yield Running(data, fronts, client)


async def test_tokens_of_a_task_count_at_every_replica(running: Running) -> None:
    await running.listening(await running.key("tokens", budget_per_day=1000 * TOKEN))
    key = await running.key("tokens", tokens_per_minute=50)
    task = {"agent": "assistant", "input": "say 200", "session": "s1"}
    wait = {"Prefer": "wait=30"}
    done = await running.ask(0, key, "POST", "/v1/tasks", json=task, headers=wait)
    assert done.json()["state"] == "completed", done.text
    assert done.json()["totals"]["usage"]["output"] > 150
    await running.used_up(key)
    refused = await running.ask(1, key, "POST", "/v1/tasks", json=task)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert int(refused.headers["retry-after"]) > 30
    assert refused.headers["x-ratelimit-remaining-tokens"] == "0"
    state = await running.ask(1, key, "GET", f"/v1/tasks/{done.json()['task']}")
    assert state.status_code == 200, "to look costs no tokens"
    await _refused_in_a_socket(running, key)
    again = await running.ask(
        1, key, "POST", f"/v1/tasks/{done.json()['task']}/retry", params={"session": "s1"}
    )
    assert again.json()["code"] == "rate_limited"


async def _refused_in_a_socket(running: Running, key: str) -> None:
    """What a socket asks for is new work as well, and leaves the same line."""
    url = f"{running.fronts[1].url.replace('http', 'ws')}/v1/sessions/s2/ws"
    headers = {"Authorization": f"Bearer {key}"}
    async with connect(url, additional_headers=headers, proxy=None) as socket:
        await socket.send('{"type": "submit", "id": 1, "agent": "assistant", "input": "say 1"}')
        answer = orjson.loads(await socket.recv())
    assert (answer["type"], answer["error"]["code"]) == ("error", "rate_limited")

    async def logged() -> bool:
        found = await running.ask(1, key, "GET", "/v1/requests", params={"kind": "refused"})
        routes = {line["route"] for line in found.json()["requests"]}
        return "WS /v1/sessions/{session}/ws" in routes

    await until(logged, every=0.1)


async def test_tokens_of_a_task_that_came_over_the_bus_are_its_tenants(running: Running) -> None:
    key = await running.key("bus")
    await Keys(running.client.bus, "bus").allow(Allowance(tokens_per_minute=50))
    task = await running.client.for_tenant("bus").submit("assistant", "say 200", session="s1")
    await task.result(timeout=30)
    await running.used_up(key)
    assert (await running.chat(0, key)).status_code == 429
    other = await running.key("elsewhere")
    assert (await running.chat(0, other)).status_code == 200


async def opened(running: Running, key: str, path: str) -> tuple[int, asyncio.StreamWriter]:
    """The status of an event stream, and its connection."""
    url = httpx.URL(running.fronts[0].url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n"
    writer.write(head.encode())
    status = await reader.readline()
    return int(status.split()[1]), writer


async def test_open_streams_have_a_bound_of_their_own(running: Running) -> None:
    key = await running.key("streams", max_streams=1, concurrency=1)
    path = "/v1/sessions/s1/events"
    status, first = await opened(running, key, path)
    assert status == 200
    full = await running.ask(0, key, "GET", path)
    assert (full.status_code, full.json()["code"]) == (429, "too_many_streams")
    assert full.headers["retry-after"] == "1"
    streamed = {"model": "agent:assistant", "stream": True, "input": "say 1"}
    begun = await running.ask(0, key, "POST", "/v1/responses", json=streamed)
    assert begun.json()["error"]["code"] == "too_many_streams"
    sessions = await running.client.for_tenant("streams").sessions()
    assert sessions == [], "refused before it began"
    assert (await running.chat(0, key)).status_code == 200, "no request has to wait for a stream"
    first.transport.abort()

    async def free() -> bool:
        status, writer = await opened(running, key, path)
        writer.transport.abort()
        return status == 200

    await until(free)


async def test_a_budget_ends_at_every_replica_and_outlives_them(running: Running) -> None:
    key = await running.key("money", budget_per_day=102 * TOKEN)
    await running.listening(key)
    assert (await running.chat(0, key, 100)).status_code == 200
    await running.refused_everywhere(key, "budget_exhausted")
    answers: list[int] = []

    async def heard(answer: httpx.Response) -> None:
        answers.append(answer.status_code)

    async with httpx.AsyncClient(event_hooks={"response": [heard]}) as http:
        url = f"{running.fronts[1].url}/v1"
        client = openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=3, http_client=http)
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(**body(1))  # type: ignore[call-overload]  # a dict
    assert (refused.value.type, answers) == ("insufficient_quota", [429]), "it does not try again"

    async def as_billed() -> bool:
        """The replica has heard what the ledger has written down, and neither more nor less."""
        answer = await running.ask(1, key, "GET", "/v1/usage", params={"by": "key"})
        usage = answer.json()
        (budget,) = usage["budgets"]
        assert (budget["of"], budget["period"], budget["left"]) == ("key", "day", 0)
        bill = {row["key"]: row["price"] for row in usage["rows"]}
        return bool(102 * TOKEN <= budget["spent"] == bill.get(key.split("_")[1]))

    await until(as_billed, every=0.1)
    async with ingress(running.data, MILLRACE_AUTH="keys") as fresh:

        async def told() -> bool:
            answer = await fresh.http.post(
                "/v1/chat/completions", json=body(1), headers={"Authorization": f"Bearer {key}"}
            )
            assert answer.status_code != 200, "it fails closed until it knows"
            return "budget_exhausted" in answer.text

        await until(told)


async def test_what_was_refused_is_in_the_request_log(running: Running) -> None:
    key = await running.key("refused", requests_per_minute=10)
    for _ in range(30):
        await running.ask(0, key, "GET", "/v1/models")
    watcher = await running.key("refused")
    line = await running.line(watcher, kind="refused", status="failed")
    assert (line["error_code"], line["http_status"], line["key"]) == (
        ("rate_limited", 429, key.split("_")[1])
    )
    assert line["count"] >= 1
    missing = body(1, model="no-such-route")
    answer = await running.ask(0, watcher, "POST", "/v1/chat/completions", json=missing)
    assert answer.status_code == 404

    async def logged() -> bool:
        found = await running.line(watcher, kind="refused")
        return bool(found["route"] == "POST /v1/chat/completions")

    await until(logged, every=0.2)
    page = await running.ask(1, watcher, "GET", "/v1/requests")
    assert not page.json()["rebuilding"]
    assert len(page.json()["requests"]) <= 5, "thirty refusals are a line or two"


async def test_embeddings_are_billed_and_logged(running: Running) -> None:
    key = await running.key("embeds")
    asked = {"model": "all-MiniLM-L6-v2", "input": ["one", "two words"], "user": "ada"}
    answer = await running.ask(0, key, "POST", "/v1/embeddings", json=asked)
    assert answer.status_code == 200, answer.text
    tokens = answer.json()["usage"]["prompt_tokens"]
    line = await running.line(key, kind="embedding")
    assert (line["model"], line["user"], line["status"]) == (asked["model"], "ada", "completed")
    assert (line["usage"]["input"], line["price"]) == (tokens, tokens * TOKEN // 2)
    usage = (await running.ask(0, key, "GET", "/v1/usage", params={"by": "model"})).json()
    assert [(row["model"], row["price"]) for row in usage["rows"]] == [
        (asked["model"], tokens * TOKEN // 2)
    ]


async def test_what_a_client_does_not_wait_for_is_logged_and_billed(running: Running) -> None:
    key = await running.key("gone")
    http = running.fronts[0].http
    long = body(15_000, stream=True)
    headers = {"Authorization": f"Bearer {key}"}
    async with http.stream("POST", "/v1/chat/completions", json=long, headers=headers) as answer:
        async for _ in answer.aiter_raw():
            break
    line = await running.line(key, kind="completion")
    assert (line["status"], line["error_code"]) == ("failed", "client_gone")
    assert 0 < line["usage"]["output"] < 15_000
    assert line["price"] == line["usage"]["output"] * TOKEN
