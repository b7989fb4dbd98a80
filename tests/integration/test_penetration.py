"""What an attacker sends on a socket of his own: no request within a request, no header of his in
an answer, no line of his in a log, no file of ours, no page of his before an open ingress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.ingress_system import Ingress, ingress

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]
INNER = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
"""The request that must never be answered: to us it is only a body."""

OTHERS = 3


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "ingress.log"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(tmp_path_factory: pytest.TempPathFactory, log: Path) -> AsyncIterator[Ingress]:
    async with ingress(tmp_path_factory.mktemp("front"), log) as running:
        yield running


async def said(front: Ingress, sent: bytes) -> bytes:
    """All that the server says to it, until it serves others and has nothing to add here."""
    host, port = front.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    heard = b""
    try:
        writer.write(sent)
        await writer.drain()
        async with asyncio.timeout(10):
            heard += await reader.read(1 << 16)
        while chunk := await added(front, reader):
            heard += chunk
    except TimeoutError:
        pass
    finally:
        writer.close()
    return heard


async def added(front: Ingress, reader: asyncio.StreamReader) -> bytes:
    """What comes before others are served, who began later; nothing where nothing does.

    One process answers all of them, in turns: a request that hides is under way before theirs.
    """
    more = asyncio.create_task(reader.read(1 << 16))
    for _ in range(OTHERS):
        await front.http.get("/healthz")
        await asyncio.wait({more}, timeout=0.05)
        if more.done():
            return more.result()
    more.cancel()
    await asyncio.gather(more, return_exceptions=True)
    return b""


def post(*headers: str, body: bytes = b"", path: str = "/v1/tasks") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER)


@pytest.mark.parametrize(
    "sent",
    [
        post("Content-Length: 0", "Transfer-Encoding: chunked", body=CHUNKED),
        post(f"Content-Length: {len(INNER)}", f"Content-Length: {0}", body=INNER),
        post("Content-Length: 0", f"Content-Length : {len(INNER)}", body=INNER),
        post("Transfer-Encoding: chunked", "Transfer-Encoding: identity", body=CHUNKED),
        post("Transfer-Encoding: xchunked", body=CHUNKED),
        post("Content-Length: +3", body=b"abc" + INNER),
        post("Content-Length: 0x3", body=b"abc" + INNER),
        post("Transfer-Encoding:\x0bchunked", body=CHUNKED),
        post(" folded: x", f"Content-Length: {len(INNER)}", body=INNER),
    ],
    ids=lambda sent: sent.split(b"\r\n", 4)[3].decode("latin-1"),
)
async def test_no_request_hides_in_another(front: Ingress, sent: bytes) -> None:
    heard = await said(front, sent)
    assert heard.count(b"HTTP/1.1 ") <= 1, heard
    assert not heard.startswith(b"HTTP/1.1 2"), heard


@pytest.mark.parametrize(
    "name", ["Idempotency-Key", "X-Request-Id", "traceparent", "Last-Event-ID"]
)
@pytest.mark.parametrize("value", ["a\rX-Mine: 1", "a\nX-Mine: 1", "a\x00b"])
async def test_a_header_is_one_line(front: Ingress, name: str, value: str) -> None:
    heard = await said(front, post(f"{name}: {value}", "Content-Length: 2", body=b"{}"))
    assert b"x-mine" not in heard.partition(b"\r\n\r\n")[0].lower()
    assert not heard.startswith(b"HTTP/1.1 2")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/tasks/a%0d%0aX-Mine:%201",
        "/v1/sessions/a%0aX-Mine:%201/history",
        "/v1/responses/%0d%0a%0d%0a<script>",
        "/v1/collections/..%2f..%2fetc/documents/passwd",
        "/v1/collections/a/documents/..%2f..%2f..%2fetc%2fpasswd",
        "/../../../../etc/passwd",
        "/static/..%5c..%5c..%5cetc/passwd",
        "//127.0.0.1/etc/passwd",
    ],
)
async def test_a_path_is_a_name_and_nothing_else(front: Ingress, path: str) -> None:
    heard = await said(front, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    status, _, body = heard.partition(b"\r\n\r\n")
    assert status.split()[1] in {b"400", b"404", b"422", b"503"}, heard
    assert b"x-mine" not in status.lower()
    assert b"root:" not in body
    assert b"<script>" not in body or b"application/" in status.lower()


@pytest.mark.parametrize(
    "headers",
    [
        "Host: rebound.example",
        "Host: 127.0.0.1.rebound.example",
        "Host: 127.0.0.1\r\nOrigin: https://evil.example",
        "Host: 127.0.0.1\r\nOrigin: null",
        "Host: localhost\r\nOrigin: http://localhost.evil.example",
        "Host: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nOrigin: https://evil.example",
        "Host: evil.example@127.0.0.1",
        "Host: 127.0.0.1\r\nHost: evil.example",
    ],
)
@pytest.mark.parametrize(
    "more", ["", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"], ids=["http", "socket"]
)  # fmt: skip
async def test_a_page_elsewhere_reaches_no_open_ingress(
    front: Ingress, headers: str, more: str
) -> None:
    path = "/v1/sessions/s1/ws" if more else "/v1/models"
    heard = await said(front, f"GET {path} HTTP/1.1\r\n{headers}\r\n{more}\r\n".encode())
    assert heard.split()[1] in {b"400", b"403", b"421"}, heard


async def test_no_line_of_the_log_is_written_by_a_client(front: Ingress, log: Path) -> None:
    for path in ("/v1/tasks/x%0alevel=error%20event=mine", "/a%0d%0alevel=error"):
        await said(front, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    await said(front, post("User-Agent: \x1b[31mred", "Content-Length: 3", body=b"{\n}"))
    await said(front, post("Transfer-Encoding: chunked", body=b"f" * 17 + b"\r\n"))
    text = await asyncio.to_thread(log.read_text)
    assert "Traceback" not in text
    assert len(text) < 50_000
    assert not [line for line in text.splitlines() if line.startswith("level=error")]
    assert "\x1b" not in text


async def test_what_follows_at_once_is_heard(front: Ingress) -> None:
    """Or none of the above would show that no request hides in another."""
    twice = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 2
    assert (await said(front, twice)).count(b"HTTP/1.1 200") == 2


async def test_it_still_serves(front: Ingress) -> None:
    assert (await front.http.get("/healthz")).status_code == 200
