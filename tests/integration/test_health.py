"""A server that says that it cannot write is restarted once there is room, and not before."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from infra.local import health
from infra.local.broker import free_port
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
BODY = b'{"status":"unavailable","error":"JetStream stream RUNS write error: no space left"}'


@dataclass
class Sick:
    """Answers every request as a server with a full disk does."""

    port: int = field(default_factory=free_port)
    free: int = 0
    restarts: int = 0
    said: list[str] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 503 Sick\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY)
        writer.write(head + BODY)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def restart(self) -> None:
        self.restarts += 1


@pytest.fixture
async def sick(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sick]:
    monkeypatch.setattr(health, "EVERY", 0.02)
    found = Sick()
    server = await asyncio.start_server(found.answer, "127.0.0.1", found.port)
    url = f"http://127.0.0.1:{found.port}"
    watch = asyncio.create_task(
        health.watch(url, lambda: found.free, found.restart, found.said.append)
    )
    yield found
    watch.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watch
    server.close()
    await server.wait_closed()


async def test_it_waits_for_room_and_says_so_once(sick: Sick) -> None:
    await until(lambda: sick.said)
    await asyncio.sleep(0.2)
    assert sick.restarts == 0
    assert len(sick.said) == 1
    assert "no space left" in sick.said[0]


async def test_it_restarts_once_there_is_room(sick: Sick) -> None:
    await until(lambda: sick.said)
    sick.free = health.ROOM
    await until(lambda: sick.restarts)
    await asyncio.sleep(0.2)
    assert sick.restarts == 1
