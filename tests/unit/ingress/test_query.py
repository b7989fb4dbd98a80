"""A query parameter that a path does not take is refused by name, everywhere under `/v1`."""

import dataclasses

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from starlette.routing import WebSocketRoute

from services.ingress.adapters.http.app import Parts, build_api
from services.ingress.adapters.http.metrics import Metrics
from services.ingress.adapters.http.transport import JsonRoute
from services.ingress.core.http.validation import unknown_query

MISSPELLED = [
    ("GET", "/v1/models?colour=red", "colour"),
    ("GET", "/v1/models/default?limit=1", "limit"),
    ("GET", "/v1/tasks?state=running", "state"),
    ("GET", "/v1/sessions?status=running", "status"),
    ("GET", "/v1/usage?until=2026-01-01&untill=2026-01-01", "untill"),
    ("GET", "/v1/requests?min_sec=1", "min_sec"),
    ("GET", "/v1/tasks/t/events?afer=1", "afer"),
    ("GET", "/v1/sessions/s/history?befor=3", "befor"),
    ("DELETE", "/v1/sessions/s?forced=true", "forced"),
    ("GET", "/v1/dead?code=x&sesion=y", "sesion"),
    ("GET", "/v1/responses/resp_t_0?include=x", "include"),
]


@pytest.mark.parametrize(("method", "path", "field"), MISSPELLED)
async def test_what_is_misspelled_is_named(
    http: httpx.AsyncClient, method: str, path: str, field: str
) -> None:
    answer = await http.request(method, path)
    body = answer.json()
    error = body.get("error", body)
    assert answer.status_code in (400, 422)
    assert error["code"] == "invalid_request"
    assert field in (error.get("field"), error.get("param"))


async def test_what_a_post_does_not_take_is_named_too(http: httpx.AsyncClient) -> None:
    ask = {"agent": "assistant", "input": "hi"}
    answer = await http.post("/v1/tasks?wait=30", json=ask)
    assert (answer.status_code, answer.json()["field"]) == (422, "wait")
    said = {"model": "default", "messages": [{"role": "user", "content": "hi"}]}
    short = await http.post("/v1/chat/completions?api-version=1", json=said)
    assert short.json()["error"]["param"] == "api-version"


def test_what_says_nothing_is_let_through() -> None:
    assert unknown_query(["beta", "limit"], {"limit"}) is None


def test_every_path_is_looked_at() -> None:
    parts = Parts(**{field.name: object() for field in dataclasses.fields(Parts)})
    api = build_api(parts, Metrics())
    routes = [context.original_route for context in iter_route_contexts(api.routes)]
    ours = [
        one
        for one in routes
        if getattr(one, "path", "").startswith("/v1/") and not isinstance(one, WebSocketRoute)
    ]
    assert len(ours) > 40
    assert all(isinstance(one, JsonRoute) for one in ours)
