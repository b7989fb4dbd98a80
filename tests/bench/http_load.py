"""A load generator for HTTP: `python -m tests.bench.http_load PORT CONNECTIONS SECONDS BODY`.

Each connection sends a request, reads its answer to the last byte, and sends the next (keep-alive,
no pipelining). It looks for no more than the end of an answer, so that it costs a small part of
what it measures; what it costs it reports, too. The result is one line of JSON.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import cast

import orjson
import uvloop

from shared.clock import monotonic

_END = b"0\r\n\r\n"
_LENGTH = b"content-length: "


class Connection(asyncio.Protocol):
    """One client, one request at a time."""

    def __init__(self, request: bytes, load: Load) -> None:
        self._request, self._load = request, load
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self._left = -1
        """Bytes that the answer still lacks; -1 while its length is not known (a stream's)."""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is of no such class
        self._again()

    def data_received(self, data: bytes) -> None:
        first = not self._pieces
        self._pieces.append(data)
        if first:
            self._left = _missing(data)
        elif self._left >= 0:
            self._left -= len(data)
        if self._left == 0 or (self._left < 0 and self._ends(data)):
            self._load.answered(b"".join(self._pieces), monotonic() - self._sent)
            self._again()

    def _ends(self, data: bytes) -> bool:
        if len(data) < len(_END):  # the end itself is cut
            data = b"".join(self._pieces[-len(_END) :])
        return data.endswith(_END)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost()

    def _again(self) -> None:
        assert self._transport is not None
        if self._load.over:
            self._transport.close()
            return
        self._pieces.clear()
        self._sent = monotonic()
        self._transport.write(self._request)


def _missing(head: bytes) -> int:
    """How many bytes of the answer are still to come; -1 for an answer in chunks."""
    end = head.find(b"\r\n\r\n")
    at = head.find(_LENGTH, 0, end)
    if at < 0:
        return -1
    length = int(head[at + len(_LENGTH) : head.index(b"\r\n", at)])
    return end + 4 + length - len(head)


class Load:
    """What came back."""

    def __init__(self, connections: int) -> None:
        self.over = False
        self._open = connections
        self._took: list[float] = []
        self.refused = self.events = 0
        self._ended = asyncio.Event()
        self._started, self._cpu = monotonic(), os.times()

    def answered(self, answer: bytes, seconds: float) -> None:
        """An answer is complete."""
        if not answer.startswith(b"HTTP/1.1 200 ") or b'"error"' in answer:
            self.refused += 1
        self._took.append(seconds)
        self.events += answer.count(b"data: ")

    def lost(self) -> None:
        """A connection is closed."""
        self._open -= 1
        if not self.over:
            self.refused += 1
        if not self._open:
            self._ended.set()

    @property
    def answers(self) -> int:
        """How many are complete."""
        return len(self._took)

    async def report(self, seconds: float) -> dict[str, float]:
        """Wait; then let the last answers come in."""
        await asyncio.sleep(seconds)
        self.over = True
        await asyncio.wait_for(self._ended.wait(), 30)
        elapsed, cpu = monotonic() - self._started, os.times()
        took = sorted(self._took)
        return {
            "requests": len(took),
            "refused": self.refused,
            "per_s": len(took) / elapsed,
            "events_per_s": self.events / elapsed,
            "p50_ms": took[len(took) // 2] * 1e3,
            "p99_ms": took[len(took) * 99 // 100] * 1e3,
            "own_cpu_s": cpu.user + cpu.system - self._cpu.user - self._cpu.system,
        }


async def run(port: int, connections: int, seconds: float, body: bytes) -> dict[str, float]:
    """Load one server."""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    load, loop = Load(connections), asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(
            lambda: Connection(head.encode() + body, load), "127.0.0.1", port
        )
    return await load.report(seconds)


if __name__ == "__main__":
    _, place, flight, period, text = sys.argv
    report = uvloop.run(run(int(place), int(flight), float(period), text.encode()))
    sys.stdout.buffer.write(orjson.dumps(report))
