"""The short way through FastAPI for routes that are called thousands of times a second.

FastAPI resolves parameters anew for each request: twice the cost of everything else that a
completion needs here (ADR 0027). A route of this class reads its signature once, at the start. A
request that is what it should be takes the short way; one with headers or a query that the
signature names, with another media type, or with a body that does not fit goes the usual way, so
that there is one place that says what is wrong with it. The OpenAPI document is FastAPI's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from services.ingress.adapters.http.transport import JsonRequest, JsonRoute, is_json


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

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The short way, and the usual one behind it."""
        usual = super().get_route_handler()
        (body,) = self.dependant.body_params
        model = body.field_info.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise TypeError(f"{self.path}: the body is no model")
        step, named = step_of(self.dependant), headers_of(self.dependant)

        async def handle(request: Request) -> Response:
            checked = JsonRequest(request.scope, request.receive)
            if not _plain(checked, named):
                return await usual(checked)
            try:
                value = model.model_validate(await checked.json())
            except (ValidationError, orjson.JSONDecodeError):
                return await usual(checked)
            given: dict[str, Any] = {body.name: value}
            if step.request is not None:
                given[step.request] = checked
            for need in step.needs:
                given[need.name] = await need.run(checked)
            response: Response = await step.call(**given)
            return response

        return handle


def _plain(request: Request, named: frozenset[bytes]) -> bool:
    scope = request.scope
    if scope["query_string"] or any(name in named for name, _ in scope["headers"]):
        return False
    return is_json(request)
