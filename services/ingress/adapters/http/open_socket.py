"""What every WebSocket of ours is: let in or refused, read message by message, ended in order.

A kind of socket says what a message does (`_hear`), what is left behind (`_leave`) and what its
client is told at the end (`_reason`).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Literal

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from services.ingress.adapters.http.errors import refusal
from services.ingress.adapters.http.recording import RECORDING_KEY, Recording
from services.ingress.adapters.http.request import caller_of
from services.ingress.adapters.http.streams import ABORT, LAST_WORD, Streams
from services.ingress.core.access.caller import Caller
from services.ingress.core.tasks.socket import RESTART
from shared.clock import monotonic
from shared.contracts.base import check_token
from shared.errors import Failure, MillraceError


async def let_in(websocket: WebSocket, session: str | None = None) -> Caller | None:
    """Whose socket it is; None where it was refused, as an HTTP request would be."""
    scope = websocket.scope
    try:
        caller = caller_of(scope)
        if session is not None:
            check_token(session, "session")
    except MillraceError as error:
        answer = refusal(scope, error.as_failure())
        await answer(scope, websocket.receive, websocket.send)
        return None
    return caller


class OpenSocket(ABC):
    """One open socket, as the streams' clock sees it (`streams.Open`)."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._streams: Streams = websocket.app.state.streams
        self._serving: asyncio.Task[object] | None = None
        self._why: Literal["", "gone", "stopped"] = ""
        self.waits_since = 0.0

    async def serve(self) -> None:
        """Until the client goes or the server stops."""
        await self._websocket.accept()
        self._serving = asyncio.current_task()
        closed = self._streams.add(self)
        try:
            while True:
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    self._why = "gone"
                    break
                await self._hear(message.get("text"))
        except WebSocketDisconnect:
            self._why = "gone"
        except asyncio.CancelledError:
            if not self._why or self._serving is None:
                raise
            self._serving.uncancel()
        finally:
            self._serving = None
            await self._leave()
            if self._why == "stopped":
                await self._last_word()
            closed()

    @abstractmethod
    async def _hear(self, text: str | None) -> None:
        """What a message does; None for one that is binary."""

    @abstractmethod
    async def _leave(self) -> None:
        """The socket is over."""

    def _reason(self) -> str:
        """What the client is told when the server stops."""
        return ""

    async def _last_word(self) -> None:
        with suppress(TimeoutError, WebSocketDisconnect):
            async with asyncio.timeout(LAST_WORD):
                await self._websocket.close(RESTART, self._reason())

    def _refused(self, error: MillraceError) -> Failure:
        """What was wrong with a frame; a line of the request log as that of a request."""
        failure, scope = error.as_failure(), self._websocket.scope
        recording = scope.get(RECORDING_KEY)
        if isinstance(recording, Recording):
            recording.frame(scope, failure)
        return failure

    async def _say(self, frame: bytes) -> None:
        self.waits_since = self.waits_since or monotonic()
        try:
            await self._websocket.send({"type": "websocket.send", "text": frame.decode()})
        finally:
            self.waits_since = 0.0

    def beat(self) -> None:  # noqa: B027 - nothing is to be done
        """The server pings by itself."""

    def cut(self) -> None:
        """Give up on a client that does not read."""
        abort = self._websocket.scope.get("extensions", {}).get(ABORT)
        if abort is not None:
            abort()
        self._end("gone")

    def stop(self) -> bool:
        """The server shuts down."""
        self._end("stopped")
        return True

    def _end(self, why: Literal["gone", "stopped"]) -> None:
        if self._serving is not None and not self._why:
            self._why = why
            self._serving.cancel()
