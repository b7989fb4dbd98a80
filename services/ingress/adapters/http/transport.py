"""How bodies come in and answers go out: orjson, depth and media type checks, SSE, disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, aclosing
from typing import Any

import orjson
from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response

from services.ingress.core.http.problems import status_of
from services.ingress.core.http.validation import may_nest, too_deep, unknown_query
from shared.errors import Failure, MillraceError

CLIENT_GONE = 499
"""nginx's number for a client that did not wait; nobody reads it but the metrics."""
_UNWATCHED = 0.05
"""Seconds that work goes on before anybody looks whether its client is still there."""
_AT_ONCE = 64
"""Frames that are gathered while the client reads."""
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
        body = await self.body()
        value = orjson.loads(body)
        if may_nest(body) and (failure := too_deep(value)) is not None:
            raise Refused(failure)
        return value


class JsonRoute(APIRoute):
    """A route that takes JSON bodies only, where it takes a body.

    They must say that they are JSON: a form is what any web page may send to any address. Query
    parameters that it does not take are refused: one that is spelled wrongly asks for something.
    """

    def get_route_handler(
        self,
    ) -> Callable[[StarletteRequest], Coroutine[Any, Any, Response]]:
        """The route's handler behind the checks of `JsonRequest`."""
        handler = super().get_route_handler()
        takes_json, taken = self.body_field is not None, query_of(self.dependant)

        async def handle(request: StarletteRequest) -> Response:
            checked = JsonRequest(request.scope, request.receive)
            if (failure := unknown_query(checked.query_params, taken)) is not None:
                raise Refused(failure)
            if takes_json and not is_json(checked) and await checked.body():
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


def query_of(dependant: Dependant) -> frozenset[str]:
    """The query parameters that a signature names, alone or as the fields of a model."""
    names: set[str] = set()
    for one in dependant.query_params:
        kind = one.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names |= {field.alias or name for name, field in kind.model_fields.items()}
        else:
            names.add(one.alias)
    return frozenset(names).union(*(query_of(need) for need in dependant.dependencies))


def is_json(request: StarletteRequest) -> bool:
    """Whether the body says that it is JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind.endswith(_JSON_TYPES)


def sse(data: object, *, event: str = "", id: str = "") -> bytes:
    """One server-sent event; orjson writes no line breaks, so `data` is one line."""
    head = (f"id: {id}\n" if id else "") + (f"event: {event}\n" if event else "")
    return b"%sdata: %s\n\n" % (head.encode(), orjson.dumps(data))


DONE = b"data: [DONE]\n\n"


async def framed[T](
    opened: AbstractContextManager[None],
    told: AsyncGenerator[T],
    show: Callable[[T], bytes],
    fail: Callable[[Failure], bytes],
    end: bytes = b"",
) -> AsyncGenerator[bytes]:
    """What is told, as frames, while it is counted as `opened`.

    A failure on the way is a frame of its own, and the last one: `end` means that all was told.
    """
    with opened:
        async with aclosing(told):
            try:
                async for one in told:
                    yield show(one)
            except MillraceError as error:
                yield fail(error.as_failure())
                return
        if end:
            yield end


def typed(event: Mapping[str, object]) -> bytes:
    """An event that is sent under its own type, as OpenAI's responses and Anthropic's messages."""
    return sse(event, event=str(event["type"]))


async def unless_gone[T](request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, or None (and `work` cancelled) when the client hangs up before.

    Most work is done before it is worth a look whether somebody still waits for it, so nobody
    looks at first: a task for each request costs more than the rest of this.
    """
    watch = _Watch(request)
    try:
        result = await work
    except asyncio.CancelledError:
        if not watch.gone:
            raise
        return None
    finally:
        watch.stop()
    return result


class _Watch:
    """Cancels the task that made it when its client goes."""

    def __init__(self, request: Request) -> None:
        loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._request = request
        self._timer = loop.call_later(_UNWATCHED, self._begin)
        self._watcher: asyncio.Task[None] | None = None
        self.gone = False

    def stop(self) -> None:
        """It is over, one way or the other."""
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self.gone and self._task is not None:
            self._task.uncancel()

    def _begin(self) -> None:
        self._watcher = asyncio.create_task(self._hang_up())

    async def _hang_up(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            continue
        if self._task is not None:
            self.gone = True
            self._task.cancel()


async def gathered(frames: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """What is ready at the same time leaves at the same time, as one piece.

    Frames that come faster than they are sent would each be a message to the server, a chunk on
    the wire and a read of the client. Who reads slowly holds the source back.
    """
    ready: list[bytes] = []
    some, room = asyncio.Event(), asyncio.Event()

    async def fill() -> None:
        try:
            async with aclosing(frames):
                async for frame in frames:
                    ready.append(frame)
                    some.set()
                    if len(ready) >= _AT_ONCE:
                        room.clear()
                        await room.wait()
        finally:
            some.set()

    filling = asyncio.create_task(fill())
    try:
        while not filling.done() or ready:
            await some.wait()
            some.clear()
            if ready:
                piece = b"".join(ready)
                ready.clear()
                room.set()
                yield piece
        await filling
    finally:
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)
