"""The short way through FastAPI answers as the usual one does, and leaves nothing out."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Header, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response
from starlette.types import ASGIApp

from services.ingress.adapters.http import errors
from services.ingress.adapters.http.express import Express, ExpressRoute
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
        if body.dish == "glass":
            raise RuntimeError(body.dish)
        if body.dish == "soap":
            raise Permanent("invalid_request", "nobody eats that", field="dish")
        return Json({"path": request.url.path, "body": body.model_dump(), "both": both})

    app = FastAPI()
    app.include_router(router)
    errors.install(app)
    return app


EXPRESS, USUAL = Express(kitchen(ExpressRoute)), kitchen(JsonRoute)
GOOD = b'{"dish": "soup", "count": 2}'
JSON = {"Content-Type": "application/json"}


async def ask(app: ASGIApp, body: bytes, headers: dict[str, str], query: str) -> tuple[int, Any]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
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
        (GOOD, JSON, "?beta=true", 200),
        (GOOD, JSON, "?extra=1", 422),
        (GOOD, JSON | {"Key": ""}, "", 422),
        (GOOD, JSON | {"Key": "longer"}, "", 422),
        (GOOD, {"Content-Type": "text/plain"}, "", 415),
        (GOOD, {}, "", 415),
        (b"", JSON, "", 422),
        (b'{"dish": ', JSON, "", 400),
        (b'{"dish": "soup", "count": "2"}', JSON, "", 422),
        (b'{"dish": "soup", "salt": 1}', JSON, "", 422),
        (b'{"dish": %s}' % (b"[" * 100 + b"]" * 100), JSON, "", 422),
        (b'{"dish": "soap"}', JSON, "", 422),
        (b'{"dish": "glass"}', JSON, "", 500),
    ],
)
async def test_both_ways_answer_alike(body, headers, query, status):
    found = await ask(EXPRESS, body, headers, query)
    assert found == await ask(USUAL, body, headers, query)
    assert found[0] == status


async def test_a_good_request_does_not_meet_fastapis_own_resolution(monkeypatch):
    async def refuse(**_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("fastapi.routing.solve_dependencies", refuse)
    assert (await ask(EXPRESS, GOOD, JSON, ""))[0] == 200
    assert (await ask(USUAL, GOOD, JSON, ""))[0] == 500


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


def test_what_is_added_where_a_router_is_included_is_not_left_out():
    app, router = FastAPI(), APIRouter(route_class=ExpressRoute)

    @router.post("/orders")
    async def order(body: Order) -> Response: ...

    app.include_router(router, dependencies=[Depends(_guest)])
    with pytest.raises(TypeError, match="left out"):
        Express(app)


async def test_another_method_and_another_path_are_fastapis():
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(EXPRESS), base_url="http://test"
    ) as client:
        assert (await client.get("/orders")).status_code == 405
        assert (await client.post("/orders/", json={})).status_code == 307
        assert (await client.post("/nothing", json={})).status_code == 404
