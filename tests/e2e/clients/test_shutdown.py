"""An ingress that is told to stop under load: its clients lose nothing and go to another one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import orjson
import pytest
import pytest_asyncio

from tests.e2e.clients.two_ingresses import Face, Replica, two_ingresses
from tests.integration.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]
CLIENTS = 12
SAID = "a few words"
LONG = "a stream that is longer than the moment in which the server is told to stop, by far"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def face(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Face]:
    async with two_ingresses(tmp_path_factory.mktemp("face")) as running:
        yield running


def ask(port: int, said: str, *, stream: bool) -> bytes:
    message = {"role": "user", "content": f"say {said}"}
    body = orjson.dumps({"model": "default", "messages": [message], "stream": stream})
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass
class Visits:
    """What the clients met, all of them together."""

    answered: Counter[int] = field(default_factory=Counter)
    """By the port that answered."""
    last: Counter[int] = field(default_factory=Counter)
    """Answers that said that they are the last one on their connection."""
    refused: int = 0
    """Connections that were not made: the listener was closed."""
    over: bool = False


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of one answer; `IncompleteReadError` where it is cut off."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert head.startswith(b"http/1.1 200 "), head
    if b"content-length: " in head:
        size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head, await reader.readexactly(size)
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return head, body


async def visit(visits: Visits, ports: tuple[int, int], *, stream: bool) -> None:
    """Ask on and on over a kept connection, at the other port where the first does not listen.

    Whatever happens to a request that was sent is the test's business: nothing is caught here.
    """
    port = ports[0]
    while not visits.over:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            visits.refused += 1
            port = ports[1]
            continue
        kept = True
        while kept and not visits.over:
            writer.write(ask(port, SAID, stream=stream))
            head, body = await answer(reader)
            assert (b"data: [DONE]" in body) is stream
            assert stream or orjson.loads(body)["choices"][0]["message"]["content"] == SAID
            visits.answered[port] += 1
            kept = b"connection: close" not in head
            visits.last[port] += not kept
        writer.close()


async def answered_by(visits: Visits, port: int, more: int) -> None:
    goal = visits.answered[port] + more

    async def reached() -> bool:
        return visits.answered[port] >= goal

    await until(reached, every=0.01)


async def stopped(replica: Replica) -> int:
    replica.process.terminate()
    return await asyncio.to_thread(replica.process.wait, 20)


async def test_a_replica_that_stops_under_load_fails_no_request(face: Face) -> None:
    leaving = await face.another()
    visits, ports = Visits(), (leaving.port, face.first.port)
    async with asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(visit(visits, ports, stream=number % 2 == 0))
        await answered_by(visits, leaving.port, 4 * CLIENTS)
        assert await stopped(leaving) == 0
        await answered_by(visits, face.first.port, 4 * CLIENTS)
        visits.over = True
    assert visits.last[leaving.port] == CLIENTS  # each client was told once that it has to go
    assert visits.last[face.first.port] == 0
    assert visits.refused == CLIENTS


async def test_a_stream_in_flight_is_finished_and_a_waiting_client_gets_its_answer(
    face: Face,
) -> None:
    leaving = await face.another()
    streams = [await asyncio.open_connection("127.0.0.1", leaving.port) for _ in range(2)]
    for (_, writer), stream in zip(streams, (True, False), strict=True):
        writer.write(ask(leaving.port, LONG, stream=stream))
    reader, _ = streams[0]
    begun = await reader.readuntil(b'"delta":{"content":"')
    end = asyncio.create_task(stopped(leaving))
    assert b"data: [DONE]" in await reader.read()
    head, body = await answer(streams[1][0])
    assert b"connection: close" in head
    assert orjson.loads(body)["choices"][0]["message"]["content"] == LONG
    assert await end == 0
    assert b"200 OK" in begun
    for _, writer in streams:
        writer.close()


async def test_an_idle_connection_is_closed_and_a_new_one_refused(face: Face) -> None:
    leaving = await face.another()
    reader, writer = await asyncio.open_connection("127.0.0.1", leaving.port)
    writer.write(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{leaving.port}\r\n\r\n".encode())
    await answer(reader)
    assert await stopped(leaving) == 0
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(httpx.ConnectError):
        await face.http.get(f"{leaving.url}/healthz")
