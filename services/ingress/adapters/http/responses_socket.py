"""`WS /v1/responses`: responses one after the other (`services.ingress.core.responses_socket`)."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Literal

import orjson
from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from services.ingress.adapters.http.errors import refusal, trace_id_of
from services.ingress.adapters.http.metrics import Metrics
from services.ingress.adapters.http.request import caller_of
from services.ingress.adapters.http.streams import ABORT, LAST_WORD, Streams
from services.ingress.core.caller import Caller
from services.ingress.core.responses_fold import Json
from services.ingress.core.responses_socket import RESTART, body_of, error_frame
from services.ingress.ports import Opened, ResponsesApi
from shared.clock import monotonic
from shared.errors import MillraceError


def responses_socket_router(responses: ResponsesApi, metrics: Metrics) -> APIRouter:
    """One socket for many responses."""
    router = APIRouter()

    @router.websocket("/v1/responses")
    async def responses_socket(websocket: WebSocket) -> None:
        scope = websocket.scope
        try:
            caller = caller_of(scope)
        except MillraceError as error:
            answer = refusal(scope, error.as_failure())
            await answer(scope, websocket.receive, websocket.send)
            return
        with metrics.stream("socket"):
            await Socket(websocket, responses).serve(caller)

    return router


class Socket:
    """One open socket: a message, the events that answer it, the next message."""

    def __init__(self, websocket: WebSocket, responses: ResponsesApi) -> None:
        self._websocket, self._responses = websocket, responses
        self._streams: Streams = websocket.app.state.streams
        self._serving: asyncio.Task[object] | None = None
        self._why: Literal["", "gone", "stopped"] = ""
        self._kept: dict[str, Opened] = {}
        """Responses that are not stored: they live as long as the socket."""
        self.waits_since = 0.0

    async def serve(self, caller: Caller) -> None:
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
                await self._answer(caller, message.get("text"))
        except WebSocketDisconnect:
            self._why = "gone"
        except asyncio.CancelledError:
            if not self._why or self._serving is None:
                raise
            self._serving.uncancel()
        finally:
            self._serving = None
            self._forget()
            if self._why == "stopped":
                with suppress(TimeoutError, WebSocketDisconnect):
                    async with asyncio.timeout(LAST_WORD):
                        await self._websocket.close(RESTART)
            closed()

    async def _answer(self, caller: Caller, text: str | None) -> None:
        try:
            body = body_of(text)
            own = frozenset(self._kept)
            opened = await self._responses.create(caller, body, None, own)
            if not opened.stored:
                opened = replace(opened, keep=True)
                self._kept[opened.place.id] = opened
            async with aclosing(self._responses.events(opened)) as events:
                async for event in events:
                    await self._say(event)
        except MillraceError as error:
            trace_id = trace_id_of(self._websocket.scope)
            await self._say(error_frame(error.as_failure(), trace_id))

    def _forget(self) -> None:
        """Nobody can go on with what was not stored."""
        for opened in {one.task.session: one for one in self._kept.values()}.values():
            self._responses.forget(replace(opened, keep=False))

    async def _say(self, frame: Json) -> None:
        self.waits_since = self.waits_since or monotonic()
        try:
            await self._websocket.send_text(orjson.dumps(frame).decode())
        finally:
            self.waits_since = 0.0

    def beat(self) -> None:
        """The server pings by itself."""

    def cut(self) -> None:
        """Give up on a client that does not read."""
        abort = self._websocket.scope.get("extensions", {}).get(ABORT)
        if abort is not None:
            abort()
        self._end("gone")

    def stop(self) -> bool:
        """The server shuts down; what is stored can be followed on at any replica."""
        self._end("stopped")
        return True

    def _end(self, why: Literal["gone", "stopped"]) -> None:
        if self._serving is not None and not self._why:
            self._why = why
            self._serving.cancel()
