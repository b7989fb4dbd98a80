"""Kept connections that end in the moment of the next request, as those of llama.cpp's server do.

The server here hears a whole request on a connection before it ends it, which to a client is the
same as an end that crossed the request on its way.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import orjson
import pytest
import pytest_asyncio

from services.inference.adapters.provider.chat import ProviderChat
from services.inference.ports import EngineFailed
from shared.models import Api
from tests.integration.provider.endpoints import Place, asking, started
from tests.integration.provider.test_dialects import chunk

pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="package"),
    pytest.mark.timeout(60),
]

AT_ONCE, LATE = 8, 1.5
End = Literal["closed", "reset", "late", "half"]
ANTHROPIC = (
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi."}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
)
STREAMS = {
    "/v1/chat/completions": b"".join(
        b"data: %s\n\n" % orjson.dumps(one) for one in (chunk(content="Hi."), chunk("stop"))
    )
    + b"data: [DONE]\n\n",
    "/v1/messages": b"".join(
        b"event: %s\ndata: %s\n\n" % (one["type"].encode(), orjson.dumps(one)) for one in ANTHROPIC
    ),
}


@dataclass
class Server:
    """Keeps connections and answers, but for the questions that it ends connections on."""

    ends: End | None = None
    """How connections end on a question that is not the first request there."""
    fresh_too: bool = False
    """Whether those end, too, on which it is the first."""
    url: str = ""
    questions: int = 0
    ended: int = 0
    missing: int = 0
    """Bytes that an answer announces and does not have."""
    together: asyncio.Barrier | None = None
    """Answers wait for each other, so that each has a connection of its own."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fresh = True
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._one(reader, writer, fresh=fresh):
                fresh = False
        writer.close()

    async def _one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, fresh: bool
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        await reader.readexactly(int(length.group(1)) if length else 0)
        path = head.split(" ")[1].split("?")[0]
        if head.startswith("POST"):
            self.questions += 1
            if self.ends is not None and (self.fresh_too or not fresh):
                self.ended += 1
                await self._end(writer, self.ends)
                return False
        if path in STREAMS and self.together is not None:
            await self.together.wait()
        await self._answer(writer, path)
        return True

    async def _end(self, writer: asyncio.StreamWriter, how: End) -> None:
        if how == "late":
            await asyncio.sleep(LATE)
        if how == "half":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
            writer.write(b"Content-Length: 100\r\n\r\n: nothing yet\n\n")
            await writer.drain()
        if how == "reset":
            writer.transport.abort()

    async def _answer(self, writer: asyncio.StreamWriter, path: str) -> None:
        body, kind = b'{"data": [], "input_tokens": 7}', b"application/json"
        if path in STREAMS:
            body, kind = STREAMS[path], b"text/event-stream"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % (kind, len(body) + self.missing) + body)
        await writer.drain()


@pytest_asyncio.fixture(loop_scope="package")
async def server() -> AsyncIterator[Server]:
    found = Server()
    async with await asyncio.start_server(found.serve, "127.0.0.1", 0) as listening:
        found.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield found


@pytest.fixture(params=["openai", "anthropic"])
def place(request: pytest.FixtureRequest, server: Server) -> Place:
    api: Api = request.param
    return Place(api, server.url, "m", "Hello", "Hi.", "", "", enforces=False)


async def failure(place: Place) -> EngineFailed:
    async with started(place.row(key=None)) as chat:
        with pytest.raises(EngineFailed) as failed:
            await asking(chat, place.hello).said()
    return failed.value


async def everyone(chat: ProviderChat, place: Place) -> set[str]:
    asked = (asking(chat, place.hello, name=f"r{n}").said() for n in range(AT_ONCE))
    return {one.text for one in await asyncio.gather(*asked)}


@pytest.mark.parametrize("ends", ["closed", "reset"])
async def test_who_finds_a_kept_connection_ended_asks_over_another(server, place, ends) -> None:
    async with started(place.row(key=None)) as chat:  # its look is the first on a connection
        server.ends = ends
        for _ in range(3):
            assert (await asking(chat, place.hello).said()).text == place.answer
        assert (server.questions, server.ended) == (6, 3)
        assert not chat.stats().out


async def test_all_kept_connections_may_be_dead_at_once(server: Server, place: Place) -> None:
    async with started(place.row(key=None, concurrency=AT_ONCE)) as chat:
        server.together = asyncio.Barrier(AT_ONCE)
        assert await everyone(chat, place) == {place.answer}
        server.together, server.ends = None, "closed"
        assert await everyone(chat, place) == {place.answer}
        assert server.ended == AT_ONCE


async def test_a_new_connection_that_ends_is_a_failure(server: Server, place: Place) -> None:
    server.ends, server.fresh_too = "closed", True
    assert (await failure(place)).code == "provider_unavailable"
    assert server.questions == 2  # over the kept one, and over the new one


@pytest.mark.parametrize(
    ("ends", "code"), [("late", "provider_unavailable"), ("half", "engine_failed")]
)
async def test_what_may_have_been_heard_is_not_asked_again(server, place, ends, code) -> None:
    server.ends = ends
    assert (await failure(place)).code == code
    assert server.questions == 1


async def test_behind_the_last_event_nobody_waits_for_an_end(server: Server) -> None:
    place = Place("openai", server.url, "m", "Hello", "", "", "", enforces=False)
    async with started(place.row(key=None)) as chat:
        server.missing = 1
        for _ in range(2):
            assert (await asking(chat, place.hello).said()).text == "Hi."


async def test_tokens_are_counted_over_another_connection(server: Server) -> None:
    place = Place("anthropic", server.url, "m", "Hello", "", "", "", enforces=False)
    async with started(place.row(key=None)) as chat:
        server.ends = "closed"
        assert await chat.count(asking(chat, place.hello).question) == 7
        assert server.questions == 2
