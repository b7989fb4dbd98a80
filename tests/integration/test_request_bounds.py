"""Requests that are too long or too slow, on real sockets before the real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
import pytest_asyncio

from tests.integration.ingress_system import Ingress, ingress
from tests.integration.waiting import until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]
BOUND = 0.4


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ingress]:
    folder: Path = tmp_path_factory.mktemp("bounds")
    bounds = {
        "MILLRACE_HEAD_TIMEOUT": str(BOUND),
        "MILLRACE_BODY_TIMEOUT": str(BOUND),
        "MILLRACE_BODY_LIMIT": str(512 << 10),
        "MILLRACE_HTTP_BODY_MEMORY": str(1 << 20),
    }
    async with ingress(folder, **bounds) as running:
        yield running


async def answer_to(front: Ingress, *parts: bytes) -> tuple[int, dict[str, object]]:
    """What the server says before it closes the connection; the client sends no more than this."""
    host, port = front.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        whole = await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()
    head, _, body = whole.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), orjson.loads(body)


def head(path: str = "/v1/tasks/t", *headers: str, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode()


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (head("/v1/tasks/" + "a" * 9000) + b"\r\n", 414, "url_too_long"),
        (head("/v1/tasks/" + "a" * 9000), 414, "url_too_long"),
        (head("/", *(f"X-{n}: 1" for n in range(100))) + b"\r\n", 431, "headers_too_large"),
        (head("/", "X-Long: " + "a" * 65536) + b"\r\n", 431, "headers_too_large"),
        (head("/") + b"X-Endless: " + b"a" * 65536, 431, "headers_too_large"),
        (b"GET\r\n\r\n", 400, "invalid_http"),
    ],
)
async def test_a_head_that_is_too_long_or_none_is_refused(front, sent, status, code):
    answered, body = await answer_to(front, sent)
    assert (answered, body["code"]) == (status, code)
    assert body["trace_id"]


async def test_openais_path_is_answered_in_its_words(front):
    status, body = await answer_to(front, head("/v1/models?x=" + "a" * 9000) + b"\r\n")
    assert (status, body["error"]["code"]) == (414, "url_too_long")


async def test_what_is_just_within_the_bounds_passes(front):
    headers = {f"X-{n}": "a" * 700 for n in range(80)}
    answer = await front.http.get("/healthz?x=" + "a" * 8000, headers=headers)
    assert answer.status_code == 200


async def test_a_head_that_does_not_end_is_timed_out(front):
    status, body = await answer_to(front, head(), b"X-Slow: ")
    assert (status, body["code"]) == (408, "client_too_slow")


async def test_a_slow_head_on_a_kept_connection_is_timed_out(front):
    host, port = front.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head("/healthz") + b"\r\n")
    first = await asyncio.wait_for(reader.readuntil(b"}"), 30)
    assert first.startswith(b"HTTP/1.1 200")
    writer.write(head())
    rest = await asyncio.wait_for(reader.read(), 30)
    assert rest.startswith(b"HTTP/1.1 408")
    writer.close()


async def test_who_says_nothing_is_hung_up_on(front):
    host, port = front.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    assert await asyncio.wait_for(reader.read(), 30) == b""
    writer.close()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/tasks"])
async def test_a_body_that_does_not_end_is_timed_out(front, path):
    kind, length = "Content-Type: application/json", "Content-Length: 100"
    sent = head(path, kind, length, method="POST") + b'\r\n{"model": '
    status, body = await answer_to(front, sent)
    found = body.get("error", body)
    assert (status, found["code"]) == (408, "client_too_slow")


async def test_bodies_that_fill_the_memory_keep_large_ones_out_for_a_moment(front):
    """One that has come for the most part, and one as large; small ones are let in meanwhile."""
    host, port = front.url.removeprefix("http://").split(":")
    kind, length = "Content-Type: application/json", f"Content-Length: {500 << 10}"
    large = head("/v1/tasks", kind, length, method="POST") + b"\r\n"
    small = {"agent": "assistant", "input": "x"}
    codes: list[str] = []

    async def refused() -> bool:
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(large + b" " * (480 << 10))
        await writer.drain()
        answers = await asyncio.gather(
            answer_to(front, large), front.http.post("/v1/tasks", json=small)
        )
        codes.append(answers[1].json()["code"])
        writer.close()
        return answers[0][0] == 503 and answers[0][1]["code"] == "busy"

    await until(refused)
    assert set(codes) == {"bus_unavailable"}, "there is no bus here, and there was room"

    async def free_again() -> bool:
        return (await answer_to(front, large))[1]["code"] == "client_too_slow"

    await until(free_again)  # those that have gone are noticed


async def test_a_kept_connection_outlives_the_bounds_of_a_request(front):
    """The time runs from the first byte of a head, not from the last answer."""
    host, port = front.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head("/healthz") + b"\r\n")
    await asyncio.wait_for(reader.readuntil(b"}"), 30)
    await asyncio.sleep(2 * BOUND)
    writer.write(head("/healthz") + b"\r\n")
    again = await asyncio.wait_for(reader.readuntil(b"}"), 30)
    assert again.startswith(b"HTTP/1.1 200")
    writer.close()
