"""Addresses and schemas in what a client sends, against the real engine: nobody fetches an address,
nothing that is expensive to read is read, and others are served meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest
import pytest_asyncio

from shared.errors import MillraceError
from shared.models import Api
from tests.fakes.schema_bombs import BOMBS
from tests.integration.ingress_system import Ingress
from tests.integration.instant_system import instant_system
from tests.integration.provider.endpoints import KEY, Place, asking, started

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]
MODELS = """
models: {instant: {engine: openvino, path: infra/models/nano, context: 2048}}
routes: {default: [instant]}
"""


class Lure(NamedTuple):
    """An address of this machine that somebody may be persuaded to look at, and who did."""

    port: int
    callers: list[bytes]

    @property
    def addresses(self) -> list[str]:
        """The same place, written in the ways that get past lists of forbidden ones."""
        hosts = ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f000001",
                 "0177.0.0.1", "127.1", "user:word@127.0.0.1", "example.org@127.0.0.1")  # fmt: skip
        return [f"http://{host}:{self.port}/latest/meta-data" for host in hosts]


@asynccontextmanager
async def lure() -> AsyncIterator[Lure]:
    """Answers everything with a redirection to itself."""
    callers: list[bytes] = []

    async def called(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(b"")
        callers[-1] += await reader.read(1024)
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /hop\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(called, "127.0.0.1", 0)
    async with server:
        yield Lure(server.sockets[0].getsockname()[1], callers)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ingress]:
    data = tmp_path_factory.mktemp("urls")
    async with instant_system(data, "services.inference", MODELS) as running:
        yield running


Made = Callable[[str], tuple[str, str, dict[str, Any]]]


def chat(**more: Any) -> tuple[str, str, dict[str, Any]]:
    body = {"model": "default", "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}]}
    return "POST", "/v1/chat/completions", body | more


def response(**more: Any) -> tuple[str, str, dict[str, Any]]:
    body = {"model": "default", "input": "Hi", "max_output_tokens": 8}
    return "POST", "/v1/responses", body | more


def message(*content: dict[str, Any], **more: Any) -> tuple[str, str, dict[str, Any]]:
    said = [{"role": "user", "content": list(content) or "Hi"}]
    return "POST", "/v1/messages", {"model": "default", "max_tokens": 8, "messages": said} | more


def said(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [part]}]


def schema(**member: str) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": member}}


def function(url: str) -> dict[str, Any]:
    return {"name": "x", "parameters": {"type": "object", "properties": {"a": {"$ref": url}}}}


ASKED: dict[str, Made] = {
    "text": lambda url: chat(messages=said({"type": "text", "text": f"Read {url}"})),
    "image": lambda url: chat(messages=said({"type": "image_url", "image_url": {"url": url}})),
    "file": lambda url: chat(messages=said({"type": "file", "file": {"file_data": url}})),
    "audio": lambda url: chat(messages=said({"type": "input_audio", "input_audio": {"data": url}})),
    "schema": lambda url: chat(response_format=schema(**{"$ref": url})),
    "meta-schema": lambda url: chat(response_format=schema(**{"$schema": url})),
    "schema-id": lambda url: chat(response_format=schema(**{"$id": url, "$ref": "other"})),
    "dynamic": lambda url: chat(response_format=schema(**{"$dynamicRef": url})),
    "tool": lambda url: chat(tools=[{"type": "function", "function": function(url)}]),
    "search": lambda url: chat(web_search_options={"url": url}),
    "user": lambda url: chat(user=url, metadata={"webhook": url, "callback_url": url}),
    "model": lambda url: chat(model=url),
    "r-image": lambda url: response(input=said({"type": "input_image", "image_url": url})),
    "r-file": lambda url: response(input=said({"type": "input_file", "file_url": url})),
    "r-id": lambda url: response(previous_response_id=url),
    "r-item": lambda url: response(input=[{"type": "item_reference", "id": url}]),
    "r-mcp": lambda url: response(tools=[{"type": "mcp", "server_label": "x", "server_url": url}]),
    "r-prompt": lambda url: response(prompt={"id": url}),
    "r-metadata": lambda url: response(metadata={"webhook": url}),
    "m-image": lambda url: message(
        {"type": "image", "source": {"type": "url", "url": url}}
    ),
    "m-document": lambda url: message(
        {"type": "document", "source": {"type": "url", "url": url}}
    ),
    "m-mcp": lambda url: message(mcp_servers=[{"type": "url", "url": url, "name": "x"}]),
    "m-tool": lambda url: message(
        tools=[{"name": "x", "input_schema": {"type": "object", "$ref": url}}]
    ),
    "embedding": lambda url: ("POST", "/v1/embeddings", {"model": "all-MiniLM-L6-v2",
                                                         "input": url}),
    "document": lambda url: ("PUT", "/v1/collections/default/documents/d",
                             {"text": url, "metadata": {"url": url, "source": url}}),
    "document-url": lambda url: ("PUT", "/v1/collections/default/documents/d", {"url": url}),
    "query": lambda url: ("POST", "/v1/collections/default/search", {"query": url}),
    "filter": lambda url: ("POST", "/v1/collections/default/search",
                           {"query": "x", "filter": {"url": url}}),
    "task": lambda url: ("POST", "/v1/tasks", {"agent": "assistant", "input": f"What is {url}?"}),
    "callback": lambda url: ("POST", "/v1/tasks",
                             {"agent": "assistant", "input": "Hi", "callback_url": url}),
    "schedule": lambda url: ("PUT", "/v1/schedules/s", {"agent": "assistant", "input": url,
                                                        "every_s": 3600, "webhook": url}),
}  # fmt: skip
"""Whatever of a request could be an address, or have one in it; refused or done without a look."""


async def test_nobody_looks_at_an_address(front: Ingress) -> None:
    headers = {"Prefer": "wait=30"}
    async with lure() as place, asyncio.TaskGroup() as group:
        gate = asyncio.Semaphore(8)

        async def send(made: Made, url: str) -> None:
            method, path, body = made(url)
            async with gate:
                answer = await front.http.request(method, path, json=body, headers=headers)
            assert answer.status_code < 500, (path, answer.text)

        asked = [
            group.create_task(send(made, url))
            for number, made in enumerate(ASKED.values())
            for url in (place.addresses[number % 9], "file:///etc/passwd")
        ]
        asked += [group.create_task(send(ASKED["image"], url)) for url in place.addresses]
        asked += [group.create_task(send(ASKED["schema"], url)) for url in place.addresses]
        await asyncio.gather(*asked)
        stored = await front.http.put(
            "/v1/collections/default/documents/last", json={"text": place.addresses[0]}
        )
        sought = {"query": "data", "min_seq": stored.json()["sequence"]}
        found = await front.http.post("/v1/collections/default/search", json=sought)
        assert found.status_code == 200, found.text  # the documents before it are read, too
        assert place.callers == []
        async with httpx.AsyncClient(trust_env=False) as witness:
            assert (await witness.get(place.addresses[0])).status_code == 302
        assert len(place.callers) == 1


async def test_bombs_are_refused_while_others_are_served(front: Ingress) -> None:
    async def bombed(name: str, number: int) -> None:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": BOMBS[name]}}
        _, path, body = chat(response_format=form) if number % 2 else _forced(BOMBS[name])
        answer = await front.http.post(path, json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (422, "invalid_request"), answer.text
        assert error["param"] in ("response_format.json_schema.schema",
                                  "tools.0.function.parameters")  # fmt: skip

    async def served() -> None:
        _, path, body = chat()
        answer = await front.http.post(path, json=body)
        assert answer.status_code == 200, answer.text

    async with asyncio.TaskGroup() as group:
        for number, name in enumerate(BOMBS):
            group.create_task(bombed(name, number))
            group.create_task(served())
    assert front.process.returncode is None


def _forced(schema: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    tool = {"type": "function", "function": {"name": "x", "parameters": schema, "strict": True}}
    return chat(tools=[tool], tool_choice="required")


UNMET = {
    "no-end": {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    "contradiction": {"allOf": [{"type": "string"}, {"type": "integer"}]},
    "bounds": {"type": "integer", "minimum": 5, "maximum": 3},
}
LARGE = {
    "long-text": {"type": "string", "minLength": 1_000_000},
    "slow-pattern": {"type": "string", "pattern": "^(a|aa|aaa|b){200}$"},
    "many-items": {"type": "array", "minItems": 1_000_000, "items": {"type": "integer"}},
}


def _shaped(schema: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    form = {"name": "x", "schema": schema, "strict": True}
    return chat(response_format={"type": "json_schema", "json_schema": form})


@pytest.mark.parametrize("name", UNMET)
async def test_a_schema_that_nothing_meets_is_the_requests_fault(front: Ingress, name: str) -> None:
    """It can be read, so that only the engine finds out; and it is not asked again."""
    inside = {"type": "object", "properties": {"x": UNMET[name]}, "required": ["x"]}
    for (_, path, body), field in (
        (_shaped(UNMET[name]), "response_format"),
        (_forced(inside), "tools"),
    ):
        answer = await front.http.post(path, json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (422, "invalid_request"), answer.text
        assert error["param"] == field
    _, path, body = chat()
    assert (await front.http.post(path, json=body)).status_code == 200


@pytest.mark.parametrize("name", LARGE)
async def test_a_schema_of_a_long_value_is_bounded_by_the_answer(front: Ingress, name: str) -> None:
    _, path, body = _shaped(LARGE[name])
    answer = await front.http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    _, path, body = chat()
    assert (await front.http.post(path, json=body)).status_code == 200


async def test_a_body_that_nests_is_refused(front: Ingress) -> None:
    for levels in (100, 10_000):
        inner = b'{"a":' * levels + b"1" + b"}" * levels
        sent = b'{"model":"default","messages":[{"role":"user","content":"Hi"}],"response_format":'
        sent += b'{"type":"json_schema","json_schema":{"name":"x","schema":' + inner + b"}}}"
        headers = {"Content-Type": "application/json"}
        answer = await front.http.post("/v1/chat/completions", content=sent, headers=headers)
        assert answer.status_code in (400, 422), answer.text
        assert answer.json()["error"]["code"] in ("invalid_json", "invalid_request")


@pytest.mark.parametrize("api", ["openai", "anthropic"])
async def test_an_endpoint_cannot_send_us_elsewhere(api: Api) -> None:
    """With the key, which is why a redirection is an error of the models file."""
    async with lure() as place:
        url = f"http://127.0.0.1:{place.port}"
        row = Place(api, url, "m", "Hi", "", "", "", enforces=False).row()
        async with started(row) as chat:
            with pytest.raises(MillraceError) as failed:
                await asking(chat, "Hi").said()
        assert KEY not in failed.value.detail
        assert KEY.encode() in b"".join(place.callers)
        assert not [head for head in place.callers if b"/hop" in head.split(b"\r\n")[0]]
