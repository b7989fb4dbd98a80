"""How bodies come in and answers go out: orjson, depth and media type checks, SSE, disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import Any

import anyio
import orjson
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response

from services.ingress.adapters.http.streams import COMMENT, EventStream
from services.ingress.core.problems import status_of
from services.ingress.core.validation import too_deep
from shared.errors import Failure

CLIENT_GONE = 499
"""nginx's number for a client that did not wait; nobody reads it but the metrics."""
_JSON_TYPES = ("application/json", "+json")


class Refused(HTTPException):
    """A refusal while the body is read; FastAPI lets only its own kind of error through there."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(status_of(failure), failure.detail)
        self.failure = failure


class Json(Response):
    """An answer encoded with orjson."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """The body."""
        return orjson.dumps(content)


class JsonRequest(Request):
    """A request whose JSON is read with orjson and checked for nesting."""

    async def json(self) -> object:
        """The parsed body."""
        value = orjson.loads(await self.body())
        if (failure := too_deep(value)) is not None:
            raise Refused(failure)
        return value


class JsonRoute(APIRoute):
    """A route that takes JSON bodies only, where it takes a body.

    They must say that they are JSON: a form is what any web page may send to any address.
    """

    def get_route_handler(
        self,
    ) -> Callable[[StarletteRequest], Coroutine[Any, Any, Response]]:
        """The route's handler behind the checks of `JsonRequest`."""
        handler = super().get_route_handler()
        takes_json = self.body_field is not None

        async def handle(request: StarletteRequest) -> Response:
            checked = JsonRequest(request.scope, request.receive)
            if takes_json and not _is_json(checked) and await checked.body():
                kind = checked.headers.get("content-type", "")[:80]
                raise Refused(
                    Failure(
                        code="unsupported_media_type",
                        detail=f"send application/json, not {kind!r}",
                        field="Content-Type",
                    )
                )
            return await handler(checked)

        return handle


def _is_json(request: StarletteRequest) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind.endswith(_JSON_TYPES)


def sse(data: object, *, event: str = "", id: str = "") -> bytes:
    """One server-sent event; orjson writes no line breaks, so `data` is one line."""
    head = (f"id: {id}\n" if id else "") + (f"event: {event}\n" if event else "")
    return b"%sdata: %s\n\n" % (head.encode(), orjson.dumps(data))


DONE = b"data: [DONE]\n\n"


def event_stream(
    frames: AsyncGenerator[bytes],
    headers: Mapping[str, str],
    *,
    drain: float | None,
    heartbeat: bytes = COMMENT,
) -> EventStream:
    """Send frames with heartbeats between them until they end or the client goes."""
    return EventStream(frames, headers, drain=drain, heartbeat=heartbeat)


async def _drop(*futures: asyncio.Future[Any] | None) -> None:
    waiting = [future for future in futures if future is not None and not future.done()]
    for future in waiting:
        future.cancel()
    with anyio.CancelScope(shield=True):
        await asyncio.gather(*waiting, return_exceptions=True)


async def unless_gone[T](request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, or None (and `work` cancelled) when the client hangs up before."""
    job = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait({job, gone}, return_when=asyncio.FIRST_COMPLETED)
        return job.result() if job.done() else None
    finally:
        await _drop(job, gone)


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
