"""`WS /v1/sessions/{id}/ws`: one session over one socket (`services.ingress.core.socket`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from services.ingress.adapters.http.errors import trace_id_of
from services.ingress.adapters.http.metrics import Metrics
from services.ingress.adapters.http.open_socket import OpenSocket, let_in
from services.ingress.adapters.http.streams import CURSOR
from services.ingress.core.access.caller import Caller
from services.ingress.core.http.problems import problem_details
from services.ingress.core.tasks.events import EventJson
from services.ingress.core.tasks.socket import (
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
from shared.contracts.log import Event
from shared.errors import MillraceError


def socket_router(tasks: TasksApi, commands: SocketApi, metrics: Metrics) -> APIRouter:
    """The socket of a session. It exists from its first task on, so any name will do."""
    router = APIRouter()
    shown = EventJson()

    @router.websocket("/v1/sessions/{session}/ws")
    async def session_socket(websocket: WebSocket, session: str) -> None:
        if (caller := await let_in(websocket, session)) is not None:
            with metrics.stream("socket"):
                side = Side(caller, session, tasks, commands)
                await SessionSocket(websocket, side, shown).serve()

    return router


@dataclass(frozen=True, slots=True)
class Side:
    """Whose socket it is, of which session, and what answers it."""

    caller: Caller
    session: str
    tasks: TasksApi
    commands: SocketApi


class SessionSocket(OpenSocket):
    """Reads commands one after the other, and sends events beside that."""

    def __init__(self, websocket: WebSocket, side: Side, shown: EventJson) -> None:
        super().__init__(websocket)
        self._side, self._shown = side, shown
        self._following: asyncio.Task[None] | None = None
        self._cursor = ""
        """The id of the event that was sent last: where its client goes on."""
        websocket.scope[CURSOR] = self._reason

    def _reason(self) -> str:
        """Where the client goes on, at whatever replica."""
        return self._cursor

    async def _leave(self) -> None:
        await self._unfollow()

    async def _hear(self, text: str | None) -> None:
        """A frame; whatever is wrong with it is answered, and the socket stays open."""
        re: str | int | None = None
        try:
            frame = frame_of(text)
            re = id_of(frame)
            command = command_of(frame)
            if isinstance(command.body, FollowBody):
                await self._follow(command, command.body.after)
                return
            side, answer = self._side, dict[str, object](session=self._side.session)
            if isinstance(command.body, UnfollowBody):
                await self._unfollow()
            else:
                answer = await side.commands.answer(side.caller, side.session, command)
        except MillraceError as error:
            await self._say(error_frame(re, self._problem(error)))
            return
        await self._say(ok_frame(re, answer))

    async def _follow(self, command: Command, after: str) -> None:
        session = self._side.session
        events = await self._side.tasks.follow(self._side.caller, session, after)
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

    def _problem(self, error: MillraceError) -> dict[str, object]:
        return problem_details(self._refused(error), trace_id_of(self._websocket.scope))
