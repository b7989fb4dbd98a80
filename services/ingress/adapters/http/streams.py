"""Open streams: one clock for all their heartbeats, one way to end them, one bound for patience.

A stream that waits is an ASGI task, a task that waits for the client to go, and nothing else: a
process holds thousands. (`sse-starlette` has three more tasks in a task group for each; ADR 0024.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Literal, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shared.clock import monotonic

ABORT = "millrace.abort"
"""Extension of a scope: a function that ends the connection, whatever waits to be sent."""
_SLOTS = 15
CURSOR = "millrace.cursor"
"""Where a socket leaves a function in its scope that tells the id of the event sent last."""
COMMENT = b": ping\n\n"
"""A heartbeat that no client shows to anybody."""
DRAIN = 4.0
"""Seconds that a stream which nobody can resume gets to finish when the server stops; the process
has five until it cancels what still runs."""
LAST_WORD = 1.0
"""Seconds for the end of a stream to leave, when the server stops."""
End = Literal["gone", "stopped"]


class Open(Protocol):
    """A stream, as the clock sees it."""

    @property
    def waits_since(self) -> float:
        """Since when what it sends waits for its client to read; 0 where nothing waits."""
        ...

    def beat(self) -> None:
        """Say something if nothing was said for a while."""
        ...

    def cut(self) -> None:
        """End it without the client's help."""
        ...

    def stop(self) -> bool:
        """The server shuts down; answers whether the stream ends now."""
        ...


class Streams:
    """All open streams of this process.

    `beat` is how often a silent one shows that it lives, `patience` how long a client may take to
    read on, once nothing more goes into its socket; both in seconds.
    """

    def __init__(self, beat: float = 15.0, patience: float = 30.0) -> None:
        self._slots: list[set[Open]] = [set() for _ in range(_SLOTS)]
        self._tick, self._patience = beat / _SLOTS, patience
        self._timer: asyncio.TimerHandle | None = None
        self._next = self._now = 0
        self._stopping = False
        self._ending: set[Open] = set()
        self._ended = asyncio.Event()

    def __len__(self) -> int:
        return sum(map(len, self._slots))

    def add(self, stream: Open) -> Callable[[], None]:
        """It is open from now on; answers the function that says it is no more."""
        slot = self._slots[self._next]
        self._next = (self._next + 1) % _SLOTS
        slot.add(stream)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick, self._beat)
        if self._stopping:
            stream.stop()

        def closed() -> None:
            slot.discard(stream)
            self._ending.discard(stream)
            if not self._ending:
                self._ended.set()
            if self._timer is not None and not any(self._slots):
                self._timer.cancel()
                self._timer = None

        return closed

    async def stop(self, patience: float = 2 * LAST_WORD) -> None:
        """Tell all that the server shuts down, those that are still to come too.

        Returns when those that end now have said their last word, or were not heard.
        """
        self._stopping = True
        streams = [stream for slot in self._slots for stream in slot]
        self._ending |= {stream for stream in streams if stream.stop()}
        if self._ending:
            self._ended.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._ended.wait()

    def _beat(self) -> None:
        """One slot of the wheel at a time."""
        now = monotonic()
        for stream in list(self._slots[self._now]):
            since = stream.waits_since
            if not since:
                stream.beat()
            elif now - since > self._patience:
                stream.cut()
        self._now = (self._now + 1) % _SLOTS
        self._timer = None
        if any(self._slots):
            self._timer = asyncio.get_running_loop().call_later(self._tick, self._beat)


class EventStream(Response):
    """Server-sent events until they end, the client goes, or the server shuts down.

    When it does, a stream that can be resumed (`drain` None) ends at once and in order: the last
    id that the client got is where it goes on. Another one gets `drain` seconds to finish, and is
    broken off then: ended in order it would pass for the whole.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes],
        headers: Mapping[str, str],
        *,
        drain: float | None,
        heartbeat: bytes = COMMENT,
    ) -> None:
        self.status_code, self.background = 200, None
        self.init_headers(
            {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **headers},
        )
        self._frames, self._drain, self._heartbeat = frames, drain, heartbeat
        self.waits_since = 0.0
        self._spoke = self._over = False
        self._why: End | None = None
        self._task: asyncio.Task[object] | None = None
        self._helpers: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        self._send, self._abort = send, scope.get("extensions", {}).get(ABORT)
        self._task = task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine that runs has one
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        watcher = asyncio.create_task(self._watch(receive))
        closed = scope["app"].state.streams.add(self)
        try:
            await self._pump()
        except asyncio.CancelledError:
            if self._why is None:
                raise
            task.uncancel()
            await self._finish()
        else:
            await self._finish()
        finally:
            self._over, self._task = True, None
            closed()
            watcher.cancel()

    async def _pump(self) -> None:
        async with aclosing(self._frames) as frames:
            async for frame in frames:
                await self._write(frame)

    async def _write(self, frame: bytes) -> None:
        self.waits_since, self._spoke = monotonic(), True
        try:
            await self._send({"type": "http.response.body", "body": frame, "more_body": True})
        finally:
            self.waits_since = 0.0

    async def _finish(self) -> None:
        """The end of the body; who does not read at all is not waited for."""
        self._task = None
        if self._why == "gone":
            return
        try:
            async with asyncio.timeout(LAST_WORD):
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            self.cut()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            continue
        self._end("gone")

    def _end(self, why: End) -> None:
        """Wake the task where it waits; what it waits for cleans up after itself."""
        if self._task is not None and self._why is None:
            self._why = why
            self._task.cancel()

    def beat(self) -> None:
        """A heartbeat, where nothing was said since the last one."""
        if self._spoke:
            self._spoke = False
            return
        ping = asyncio.create_task(self._write(self._heartbeat))
        self._helpers.add(ping)
        ping.add_done_callback(self._helpers.discard)

    def cut(self) -> None:
        """Give up on a client that does not read: the id it got last is where it goes on."""
        if self._over:
            return
        if self._abort is not None:
            self._abort()
        self._end("gone")

    def stop(self) -> bool:
        """The server shuts down; answers whether the stream ends now."""
        if self._drain is None:
            self._end("stopped")
            return True
        asyncio.get_running_loop().call_later(self._drain, self.cut)
        return False
