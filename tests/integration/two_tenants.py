"""A running system with two tenants: one has one of everything, the other knows all its names."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from starlette.routing import WebSocketRoute

from services.ingress.adapters.http.app import Parts, build_api
from services.ingress.adapters.http.metrics import Metrics
from shared.client import Millrace
from shared.contracts.base import SessionRef
from shared.contracts.keys import NewKey
from shared.keys import Keys
from shared.subjects import task_subject
from tests.integration.instant_system import instant_system
from tests.integration.waiting import until

WORD = "Otterburn"
"""A word that is in everything that the first tenant has, and nowhere else."""
TASK = {"agent": "assistant", "input": f"steps 1\n{WORD}", "session": "s1"}
SCOPES = ("inference", "tasks", "sessions", "documents", "usage", "admin")
_NAMES = re.compile(r"\{(\w+)(?::path)?\}")


@dataclass(frozen=True)
class Way:
    """A route of the ingress that takes a name of something."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def takes(self) -> set[str]:
        """What kinds of names."""
        return set(_NAMES.findall(self.path))

    def to(self, names: Mapping[str, str]) -> str:
        """The path with these names."""
        return _NAMES.sub(lambda found: names[found[1]], self.path)


def all_ways() -> list[Way]:
    """Every route, from the application's own table, HEAD as GET."""
    parts = Parts(**{field.name: object() for field in fields(Parts)})
    api = build_api(parts, Metrics())  # type: ignore[arg-type]  # nothing is called
    found = []
    for context in iter_route_contexts(api.routes):
        route, path = context.original_route, context.path or ""
        socket = isinstance(route, WebSocketRoute)
        methods = {"WS"} if socket else set(getattr(route, "methods", None) or ()) - {"HEAD"}
        found += [Way(method, path) for method in sorted(methods)]
    return found


@dataclass(frozen=True)
class World:
    """Who is there, and what the first one has."""

    acme: httpx.AsyncClient
    umbrella: httpx.AsyncClient
    names: dict[str, str]
    cursors: list[str]
    """Ids of events of the first tenant's session."""

    @property
    def key(self) -> dict[str, str]:
        """The second tenant's, for a socket."""
        return {"Authorization": self.umbrella.headers["Authorization"]}

    def socket(self, path: str) -> str:
        return str(self.umbrella.base_url.join(path)).replace("http", "ws", 1)


def unlike(name: str) -> str:
    """A name of the same form that nothing has."""
    if name.isdecimal():
        return f"{name}999"
    return "".join("9" if x.isdecimal() else "q" if x.isalpha() else x for x in name)


@asynccontextmanager
async def two_tenants(data: Path) -> AsyncIterator[World]:
    """Both with a key that may do everything."""
    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("MILLRACE_AUTH", "keys")
        front = await stack.enter_async_context(instant_system(data))
        assert front.system is not None
        client = await stack.enter_async_context(front.system.client("acme"))
        acme, umbrella = [
            await _caller(stack, client, NewKey(name=name, scopes=SCOPES), tenant, front.url)
            for tenant, name in (("acme", WORD), ("umbrella", "mine"))
        ]
        names = await _furnished(client, acme)
        yield World(acme, umbrella, names, await _cursors(acme, names["task"]))


async def _caller(
    stack: AsyncExitStack, client: Millrace, order: NewKey, tenant: str, url: str
) -> httpx.AsyncClient:
    key = await Keys(client.bus, tenant).create(order)
    headers = {"Authorization": f"Bearer {key.secret}"}
    http = await stack.enter_async_context(
        httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False)
    )

    async def known() -> bool:
        return (await http.get("/v1/models")).status_code == 200

    await until(known)
    return http


async def made(http: httpx.AsyncClient, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """The answer to a request that must succeed."""
    answer = await http.request(method, path, json=body, headers={"Prefer": "wait=30"})
    assert answer.status_code < 300, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def _furnished(client: Millrace, http: httpx.AsyncClient) -> dict[str, str]:
    """One of everything, by the kind of its name in a path."""
    said = {"type": "message", "role": "user", "content": WORD}
    ask = {"model": "agent:assistant", "input": f"steps 0\n{WORD}"}
    task = await made(http, "POST", "/v1/tasks", TASK)
    response = await made(http, "POST", "/v1/responses", ask)
    talk = await made(http, "POST", "/v1/conversations", {"items": [said]})
    items = await made(http, "GET", f"/v1/conversations/{talk['id']}/items")
    await made(http, "PUT", "/v1/schedules/nightly", TASK | {"every_s": 3600})
    document = "/v1/collections/handbook/documents/d1"
    stored = await made(http, "PUT", document, {"text": f"The wheel turns. {WORD}"})
    search = {"query": WORD, "min_seq": stored["sequence"]}
    assert (await made(http, "POST", "/v1/collections/handbook/search", search))["results"]
    await client.bus.publish(task_subject(SessionRef("acme", "s2"), "assistant"), WORD.encode())
    letters: list[dict[str, Any]] = []

    async def buried() -> bool:
        letters[:] = (await http.get("/v1/dead")).json()["letters"]
        return bool(letters)

    async def booked() -> bool:
        return (await http.get(f"/v1/requests/{task['task']}")).status_code == 200

    await until(buried)
    await until(booked)
    keys = (await made(http, "GET", "/v1/keys"))["keys"]
    return {
        "task": task["task"], "session": "s1", "request": task["task"],
        "response_id": response["id"], "name": "nightly", "key": keys[0]["id"],
        "conversation_id": talk["id"], "item_id": items["data"][0]["id"],
        "collection": "handbook", "document": "d1", "letter": str(letters[0]["id"]),
    }  # fmt: skip


async def _cursors(http: httpx.AsyncClient, task: str) -> list[str]:
    text = (await http.get(f"/v1/tasks/{task}/events?session=s1")).text
    assert WORD in text
    return re.findall(r"^id: ?(.+)$", text, re.MULTILINE)
