"""A proxy on raw sockets before a real endpoint, which spoils what comes back as it is told to."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

from tests.integration.waiting import until

_EVENT = b"\n\n\r\n"
"""The end of an event that is a chunk of its own, as both real servers send them."""


@dataclass(frozen=True)
class Fault:
    """What becomes of an answer behind its n-th event; `raw` is sent in place of all of it."""

    kind: Literal["pass", "raw", "silence", "cut", "garbage", "stall", "slow"] = "pass"
    behind: int = 2
    raw: bytes = b""


def reply(status: str, body: bytes, *headers: str) -> Fault:
    """An answer of its own."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "Connection: close"]
    return Fault("raw", raw="\r\n".join([*lines, "", ""]).encode() + body)


@dataclass
class Proxy:
    """One proxy. `fault` holds for answers, `look` for the looks of the breaker."""

    host: str
    port: int
    fault: Fault = field(default_factory=Fault)
    look: Fault = field(default_factory=Fault)
    url: str = ""
    asked: int = 0
    """Requests for an answer."""
    open: int = 0
    """Connections on which an answer is on its way."""
    heads: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(length.group(1))) if length else b""
        if not head.startswith(b"POST"):
            return await self._pass(head + body, writer, self.look)
        self.asked += 1
        self.heads.append(head.decode())
        self.open += 1
        gone = asyncio.create_task(reader.read())  # nothing comes before the answer is through
        answering = asyncio.create_task(self._pass(head + body, writer, self.fault))
        try:
            await asyncio.wait({gone, answering}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.open -= 1
            for task in (gone, answering):
                task.cancel()
                with suppress(asyncio.CancelledError, ConnectionError):
                    await task
        return False

    async def _pass(self, request: bytes, writer: asyncio.StreamWriter, fault: Fault) -> bool:
        if fault.kind == "raw":
            writer.write(fault.raw)
            await writer.drain()
            return False
        if fault.kind == "silence":
            await asyncio.Event().wait()
        upstream, there = await asyncio.open_connection(self.host, self.port)
        there.write(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        try:
            await self._relay(upstream, writer, fault)
        finally:
            there.close()
        return False

    async def _relay(
        self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault
    ) -> None:
        for place in range(1, 10_000):
            try:
                piece = await upstream.readuntil(_EVENT)
            except asyncio.IncompleteReadError as end:
                writer.write(end.partial)
                await writer.drain()
                return
            writer.write(piece)
            await writer.drain()
            if fault.kind == "slow":
                await asyncio.sleep(0.02)
            elif place == fault.behind and fault.kind != "pass":
                await self._spoil(writer, fault)

    async def _spoil(self, writer: asyncio.StreamWriter, fault: Fault) -> None:
        if fault.kind == "cut":
            writer.transport.abort()
            raise ConnectionResetError
        if fault.kind == "garbage":
            writer.write(b"%x\r\n%s\r\n" % (len(fault.raw), fault.raw))
            await writer.drain()
        elif fault.kind == "stall":
            await asyncio.Event().wait()

    async def let_go(self) -> None:
        """Wait until nobody holds a connection any more."""
        await until(lambda: self.open == 0)


@asynccontextmanager
async def proxy(port: int, path: str = "") -> AsyncIterator[Proxy]:
    """A proxy before a port of this machine, on a free one."""
    found = Proxy("127.0.0.1", port)
    async with await asyncio.start_server(found.serve, "127.0.0.1", 0, limit=1 << 20) as server:
        found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{path}"
        yield found
