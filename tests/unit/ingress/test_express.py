"""The short way through FastAPI answers as the usual one does, and leaves nothing out."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Header, Request
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from services.ingress.adapters.http import errors
from services.ingress.adapters.http.express import ExpressRoute
from services.ingress.adapters.http.transport import Json, JsonRoute
from shared.errors import Permanent


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    dish: str
    count: int = 1


async def _guest(request: Request) -> str:
    return request.headers.get("x-guest", "nobody")


async def _key(key: Annotated[str | None, Header(max_length=4)] = None) -> str | None:
    if key == "":
        raise Permanent("invalid_request", "the key is empty", field="Key")
    return key


async def _both(guest: Annotated[str, Depends(_guest)], key: Annotated[str | None, Depends(_key)]):
    return [guest, key]


def kitchen(kind: type[JsonRoute]) -> FastAPI:
    router = APIRouter(route_class=kind)

    @router.post("/orders")
    async def order(
        request: Request, body: Order, both: Annotated[list[str | None], Depends(_both)]
    ) -> Response:
        if body.dish == "soap":
            raise Permanent("invalid_request", "nobody eats that", field="dish")
        return Json({"path": request.url.path, "body": body.model_dump(), "both": both})

    app = FastAPI()
    app.include_router(router)
    errors.install(app)
    return app


EXPRESS, USUAL = kitchen(ExpressRoute), kitchen(JsonRoute)
GOOD = b'{"dish": "soup", "count": 2}'
JSON = {"Content-Type": "application/json"}


async def ask(app: FastAPI, body: bytes, headers: dict[str, str], query: str) -> tuple[int, Any]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.post(f"/orders{query}", content=body, headers=headers)
        return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("body", "headers", "query", "status"),
    [
        (GOOD, JSON, "", 200),
        (GOOD, JSON | {"X-Guest": "ada"}, "", 200),
        (GOOD, JSON | {"Key": "k1"}, "", 200),
        (GOOD, {"Content-Type": "application/vnd.api+json; charset=utf-8"}, "", 200),
        (GOOD, JSON, "?extra=1", 200),
        (GOOD, JSON | {"Key": ""}, "", 422),
        (GOOD, JSON | {"Key": "longer"}, "", 422),
        (GOOD, {"Content-Type": "text/plain"}, "", 415),
        (GOOD, {}, "", 415),
        (b"", JSON, "", 422),
        (b'{"dish": ', JSON, "", 422),
        (b'{"dish": "soup", "count": "2"}', JSON, "", 422),
        (b'{"dish": "soup", "salt": 1}', JSON, "", 422),
        (b'{"dish": %s}' % (b"[" * 100 + b"]" * 100), JSON, "", 422),
        (b'{"dish": "soap"}', JSON, "", 422),
    ],
)
async def test_both_ways_answer_alike(body, headers, query, status):
    found = await ask(EXPRESS, body, headers, query)
    assert found == await ask(USUAL, body, headers, query)
    assert found[0] in (status, 400)  # what is no JSON at all


async def test_a_good_request_does_not_meet_fastapis_own_resolution(monkeypatch):
    async def refuse(**_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("fastapi.routing.solve_dependencies", refuse)
    assert (await ask(EXPRESS, GOOD, JSON, ""))[0] == 200
    with pytest.raises(AssertionError):
        await ask(USUAL, GOOD, JSON, "")


def test_a_signature_that_asks_for_more_is_refused_at_the_start():
    router = APIRouter(route_class=ExpressRoute)
    with pytest.raises(TypeError, match="asks for more"):

        @router.post("/orders/{number}")
        async def path(number: int, body: Order) -> Response: ...

    with pytest.raises(TypeError, match="asks for more"):

        @router.post("/orders")
        async def later(body: Order, tasks: BackgroundTasks) -> Response: ...

    with pytest.raises(TypeError, match="no coroutine"):

        @router.post("/orders")
        async def blocking(body: Order, at: Annotated[object, Depends(object)]) -> Response: ...


def test_no_dependency_of_the_application_is_left_out(running):
    """What is added where a router is included would not be called on the short way."""
    _, app = running
    while not isinstance(app, FastAPI):
        app = app._app  # through the layers around it
    express = [
        context
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, ExpressRoute)
    ]
    assert "/v1/chat/completions" in [context.path for context in express]
    for context in express:
        own = context.original_route.dependant.dependencies
        assert [one.call for one in context.dependant.dependencies] == [one.call for one in own]
