"""`WS /v1/responses`: responses one after the other (`services.ingress.core.responses_socket`)."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

import orjson
from fastapi import APIRouter, WebSocket

from services.ingress.adapters.http.errors import trace_id_of
from services.ingress.adapters.http.metrics import Metrics
from services.ingress.adapters.http.open_socket import OpenSocket, let_in
from services.ingress.core.access.caller import Caller
from services.ingress.core.responses.socket import body_of, error_frame
from services.ingress.ports import Opened, ResponsesApi
from shared.errors import MillraceError


def responses_socket_router(responses: ResponsesApi, metrics: Metrics) -> APIRouter:
    """One socket for many responses."""
    router = APIRouter()

    @router.websocket("/v1/responses")
    async def responses_socket(websocket: WebSocket) -> None:
        if (caller := await let_in(websocket)) is not None:
            with metrics.stream("socket"):
                await ResponsesSocket(websocket, responses, caller).serve()

    return router


class ResponsesSocket(OpenSocket):
    """A message, the events that answer it, the next message."""

    def __init__(self, websocket: WebSocket, responses: ResponsesApi, caller: Caller) -> None:
        super().__init__(websocket)
        self._responses, self._caller = responses, caller
        self._kept: dict[str, Opened] = {}
        """Responses that are not stored: they live as long as the socket."""

    async def _hear(self, text: str | None) -> None:
        try:
            own = frozenset(self._kept)
            opened = await self._responses.create(self._caller, body_of(text), None, own)
            if not opened.stored:
                opened = replace(opened, keep=True)
                self._kept[opened.place.id] = opened
            async with aclosing(self._responses.events(opened)) as events:
                async for event in events:
                    await self._say(orjson.dumps(event))
        except MillraceError as error:
            trace_id = trace_id_of(self._websocket.scope)
            await self._say(orjson.dumps(error_frame(self._refused(error), trace_id)))

    async def _leave(self) -> None:
        """Nobody can go on with what was not stored."""
        for opened in {one.task.session: one for one in self._kept.values()}.values():
            self._responses.forget(replace(opened, keep=False))
