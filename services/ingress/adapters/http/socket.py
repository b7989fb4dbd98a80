"""`WS /v1/sessions/{id}/ws`: one session over one socket (`services.ingress.core.socket`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Literal

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from services.ingress.adapters.http.errors import refusal, trace_id_of
from services.ingress.adapters.http.metrics import Metrics
from services.ingress.adapters.http.request import caller_of
from services.ingress.adapters.http.streams import ABORT, CURSOR, LAST_WORD, Streams
from services.ingress.core.caller import Caller
from services.ingress.core.events import EventJson
from services.ingress.core.problems import problem_details
from services.ingress.core.socket import (
    RESTART,
    Command,
    FollowBody,
    UnfollowBody,
    command_of,
    error_frame,
    event_frame,
    frame_of,
    id_of,
    ok_frame,
)
from services.ingress.ports import SocketApi, TasksApi
from shared.clock import monotonic
from shared.contracts.base import check_token
from shared.contracts.log import Event
from shared.errors import MillraceError


def socket_router(tasks: TasksApi, commands: SocketApi, metrics: Metrics) -> APIRouter:
    """The socket of a session. It exists from its first task on, so any name will do."""
    router = APIRouter()
    shown = EventJson()

    @router.websocket("/v1/sessions/{session}/ws")
    async def session_socket(websocket: WebSocket, session: str) -> None:
        scope = websocket.scope
        try:
            caller = caller_of(scope)
            check_token(session, "session")
        except MillraceError as error:
            answer = refusal(scope, error.as_failure())
            await answer(scope, websocket.receive, websocket.send)
            return
        with metrics.stream("socket"):
            await Socket(websocket, tasks, commands, shown).serve(caller, session)

    return router


class Socket:
    """One open socket: reads commands one after the other, and sends events beside that."""

    def __init__(
        self, websocket: WebSocket, tasks: TasksApi, commands: SocketApi, shown: EventJson
    ) -> None:
        self._websocket, self._tasks, self._commands = websocket, tasks, commands
        self._shown = shown
        self._streams: Streams = websocket.app.state.streams
        self._following: asyncio.Task[None] | None = None
        self._serving: asyncio.Task[object] | None = None
        self._why: Literal["", "gone", "stopped"] = ""
        self._cursor = ""
        """The id of the event that was sent last: where its client goes on."""
        self.waits_since = 0.0

    async def serve(self, caller: Caller, session: str) -> None:
        """Until the client goes or the server stops."""
        self._websocket.scope[CURSOR] = lambda: self._cursor
        await self._websocket.accept()
        self._serving = asyncio.current_task()
        closed = self._streams.add(self)
        try:
            while True:
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    self._why = "gone"
                    break
                await self._hear(caller, session, message.get("text"))
        except WebSocketDisconnect:
            self._why = "gone"
        except asyncio.CancelledError:
            if not self._why or self._serving is None:
                raise
            self._serving.uncancel()
        finally:
            self._serving = None
            await self._unfollow()
            if self._why == "stopped":
                await self._last_word()
            closed()

    async def _last_word(self) -> None:
        """Where the client goes on, at whatever replica."""
        with suppress(TimeoutError, WebSocketDisconnect):
            async with asyncio.timeout(LAST_WORD):
                await self._websocket.close(RESTART, self._cursor)

    async def _hear(self, caller: Caller, session: str, text: str | None) -> None:
        """A frame; whatever is wrong with it is answered, and the socket stays open."""
        re: str | int | None = None
        try:
            frame = frame_of(text)
            re = id_of(frame)
            command = command_of(frame)
            if isinstance(command.body, FollowBody):
                await self._follow(caller, session, command, command.body.after)
                return
            answer: dict[str, object] = {"session": session}
            if isinstance(command.body, UnfollowBody):
                await self._unfollow()
            else:
                answer = await self._commands.answer(caller, session, command)
        except MillraceError as error:
            await self._say(error_frame(re, self._problem(error)))
            return
        await self._say(ok_frame(re, answer))

    async def _follow(self, caller: Caller, session: str, command: Command, after: str) -> None:
        events = await self._tasks.follow(caller, session, after)
        await self._unfollow()
        self._cursor = after
        await self._say(ok_frame(command.id, {"session": session, "after": after}))
        self._following = asyncio.create_task(self._tell(events, command.id))

    async def _unfollow(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
            self._following = None

    async def _tell(self, events: AsyncGenerator[Event], re: str | int | None) -> None:
        """Send events; a failure on the way ends them, and says so."""
        try:
            async with aclosing(events):
                async for event in events:
                    await self._say(event_frame(event.id, event.kind, self._shown.of(event)))
                    self._cursor = event.id
        except MillraceError as error:
            await self._say(error_frame(re, self._problem(error)))
        except WebSocketDisconnect:
            return  # the reader hears of it too

    async def _say(self, frame: bytes) -> None:
        self.waits_since = self.waits_since or monotonic()
        try:
            await self._websocket.send({"type": "websocket.send", "text": frame.decode()})
        finally:
            self.waits_since = 0.0

    def _problem(self, error: MillraceError) -> dict[str, object]:
        return problem_details(error.as_failure(), trace_id_of(self._websocket.scope))

    def beat(self) -> None:
        """The server pings by itself."""

    def cut(self) -> None:
        """Give up on a client that does not read; the cursor waits behind what it did not read."""
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
