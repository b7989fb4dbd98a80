"""The short way past FastAPI for routes that are called thousands of times a second.

FastAPI resolves parameters anew for each request, behind several layers of its own: twice the cost
of everything else that a completion needs here (ADR 0027). A route of this class reads its
signature once, at the start. A request that is what it should be takes the short way; one with
headers or a query that the signature names, with another media type, or with a body that does not
fit goes through FastAPI, so that there is one place that says what is wrong with it. The OpenAPI
document is FastAPI's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from services.ingress.adapters.http.errors import answer_to, bug_answer
from services.ingress.adapters.http.transport import (
    CLIENT_GONE,
    JsonRequest,
    JsonRoute,
    is_json,
)
from shared.errors import MillraceError


@dataclass(frozen=True, slots=True)
class Step:
    """A function to call: with the request under one name, and with what other steps answer."""

    name: str
    call: Callable[..., Awaitable[Any]]
    request: str | None
    needs: tuple[Step, ...]

    async def run(self, request: Request) -> Any:  # noqa: ANN401 - whatever the function answers
        """Call it. Parameters from headers keep their defaults: there are none of these headers."""
        given: dict[str, Any] = {} if self.request is None else {self.request: request}
        for need in self.needs:
            given[need.name] = await need.run(request)
        return await self.call(**given)


def step_of(dependant: Dependant) -> Step:
    """What FastAPI found in a signature, as a step.

    Raises:
        TypeError: it asks for something that only FastAPI's own way provides.
    """
    call = dependant.call
    foreign = (
        dependant.path_params,
        dependant.cookie_params,
        dependant.response_param_name,
        dependant.background_tasks_param_name,
        dependant.security_scopes_param_name,
        dependant.http_connection_param_name,
    )
    optional = [*dependant.header_params, *dependant.query_params]
    if any(foreign) or any(one.field_info.is_required() for one in optional):
        raise TypeError(f"{call} asks for more than the request, a body and optional headers")
    if call is None or not inspect.iscoroutinefunction(call):
        raise TypeError(f"{call} is no coroutine function")
    needs = tuple(step_of(one) for one in dependant.dependencies)
    return Step(dependant.name or "", call, dependant.request_param_name, needs)


def headers_of(dependant: Dependant) -> frozenset[bytes]:
    """The headers that a signature names, its dependencies' too."""
    own = {one.alias.lower().encode() for one in dependant.header_params}
    return frozenset(own).union(*(headers_of(one) for one in dependant.dependencies))


class ExpressRoute(JsonRoute):
    """A POST route with one JSON body, whose other parameters follow from the request."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401 - FastAPI's
        super().__init__(path, endpoint, **options)
        (self._body,) = self.dependant.body_params
        model = self._body.field_info.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise TypeError(f"{path}: the body is no model")
        self._model = model
        self._step, self._named = step_of(self.dependant), headers_of(self.dependant)

    async def short(self, request: JsonRequest) -> Response | None:
        """The answer; None where the request has to go through FastAPI.

        Raises:
            HTTPException, MillraceError: why it is refused.
        """
        scope, step = request.scope, self._step
        named = any(name in self._named for name, _ in scope["headers"])
        if named or scope["query_string"] or not is_json(request):
            return None
        try:
            body = self._model.model_validate(await request.json())
        except (ValidationError, orjson.JSONDecodeError):
            return None
        given: dict[str, Any] = {self._body.name: body}
        if step.request is not None:
            given[step.request] = request
        for need in step.needs:
            given[need.name] = await need.run(request)
        response: Response = await step.call(**given)
        return response


class Express:
    """Answers the requests for these routes, and hands over what does not fit to FastAPI."""

    def __init__(self, api: FastAPI) -> None:
        self._api = api
        self._routes: dict[str, ExpressRoute] = {}
        for context in iter_route_contexts(api.routes):
            if isinstance(route := context.original_route, ExpressRoute):
                if _calls(context.dependant) != _calls(route.dependant):
                    raise TypeError(f"{route.path}: what its routers depend on would be left out")
                self._routes[route.path] = route
        self._short = ServerErrorMiddleware(self._answer, bug_answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self._routes:
            await self._short(scope, receive, send)
        else:
            await self._api(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes[scope["path"]]
        scope["app"], scope["route"] = self._api, route
        request = JsonRequest(scope, receive)
        try:
            answer = await route.short(request)
            body = b"" if answer is not None else await request.body()
        except ClientDisconnect:
            answer = Response(status_code=CLIENT_GONE)
        except (HTTPException, MillraceError) as error:
            answer = await answer_to(request, error)
        del request  # and with it the body: an answer may take hours
        if answer is None:
            await self._api(scope, _again(body, receive), send)
        else:
            await answer(scope, receive, send)


def _calls(dependant: Dependant) -> list[Callable[..., Any] | None]:
    return [one.call for one in dependant.dependencies]


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read already, then what comes after it."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> Message:
        return parts.pop() if parts else await receive()

    return receiving
