"""What a tenant has is not there for another one, over every path that takes a name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from shared.client import Millrace
from shared.contracts.base import SessionRef
from shared.contracts.keys import NewKey
from shared.keys import Keys
from shared.subjects import task_subject
from tests.integration.instant_system import instant_system
from tests.integration.waiting import until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]
TASK = {"agent": "assistant", "input": "steps 1", "session": "s1"}
TEXT = "The wheel turns at nine."


@dataclass
class World:
    """A system with keys: what acme has in it, and a client of umbrella's."""

    acme: httpx.AsyncClient
    umbrella: httpx.AsyncClient
    names: dict[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MILLRACE_AUTH", "keys")
        async with instant_system(tmp_path_factory.mktemp("tenants")) as front:
            assert front.system is not None
            async with AsyncExitStack() as stack:
                client = await stack.enter_async_context(front.system.client("acme"))
                acme, umbrella = [
                    await _caller(stack, client, tenant, front.url)
                    for tenant in ("acme", "umbrella")
                ]
                yield World(acme, umbrella, await _furnished(client, acme))


async def _caller(
    stack: AsyncExitStack, client: Millrace, tenant: str, url: str
) -> httpx.AsyncClient:
    key = await Keys(client.bus, tenant).create(NewKey())
    headers = {"Authorization": f"Bearer {key.secret}"}
    http = await stack.enter_async_context(
        httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False)
    )

    async def known() -> bool:
        return (await http.get("/v1/models")).status_code == 200

    await until(known)
    return http


async def _furnished(client: Millrace, http: httpx.AsyncClient) -> dict[str, str]:
    """One of everything, by the names it got."""

    async def made(method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await http.request(method, path, json=body, headers={"Prefer": "wait=30"})
        assert answer.status_code < 300, answer.text
        found: dict[str, Any] = answer.json()
        return found

    task = await made("POST", "/v1/tasks", TASK)
    response = await made("POST", "/v1/responses", {"model": "agent:assistant", "input": "steps 0"})
    conversation = await made("POST", "/v1/conversations", {"metadata": {"a": "b"}})
    await made("PUT", "/v1/schedules/nightly", TASK | {"every_s": 3600})
    stored = await made("PUT", "/v1/collections/default/documents/d1", {"text": TEXT})
    await made(
        "POST", "/v1/collections/default/search", {"query": "wheel", "min_seq": stored["sequence"]}
    )
    await client.bus.publish(task_subject(SessionRef("acme", "s2"), "assistant"), b"no json")
    letters: list[dict[str, Any]] = []

    async def buried() -> bool:
        letters[:] = (await http.get("/v1/dead")).json()["letters"]
        return bool(letters)

    await until(buried)
    return {
        "task": task["task"],
        "response": response["id"],
        "conversation": conversation["id"],
        "letter": str(letters[0]["id"]),
    }


FOREIGN: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", "/v1/tasks/{task}", None),
    ("GET", "/v1/tasks/{task}?session=s1", None),
    ("GET", "/v1/tasks/{task}/events?session=s1", None),
    ("POST", "/v1/tasks/{task}/cancel?session=s1", {}),
    ("POST", "/v1/tasks/{task}/steer?session=s1", {"text": "hello"}),
    ("POST", "/v1/tasks/{task}/approve?session=s1", {"step": 1}),
    ("POST", "/v1/tasks/{task}/reject?session=s1", {"step": 1}),
    ("POST", "/v1/tasks/{task}/retry?session=s1", {}),
    ("GET", "/v1/sessions/s1", None),
    ("GET", "/v1/sessions/s1/history", None),
    ("POST", "/v1/sessions/s1/fork", {"at": "1"}),
    ("DELETE", "/v1/sessions/s1?force=true", None),
    ("GET", "/v1/schedules/nightly", None),
    ("DELETE", "/v1/schedules/nightly", None),
    ("GET", "/v1/collections/default/documents/d1", None),
    ("DELETE", "/v1/collections/default/documents/d1", None),
    ("GET", "/v1/dead/{letter}", None),
    ("POST", "/v1/dead/{letter}/retry", {}),
    ("GET", "/v1/responses/{response}", None),
    ("POST", "/v1/responses/{response}/cancel", None),
    ("GET", "/v1/responses/{response}/input_items", None),
    ("DELETE", "/v1/responses/{response}", None),
    ("GET", "/v1/conversations/{conversation}", None),
    ("GET", "/v1/conversations/{conversation}/items", None),
    ("DELETE", "/v1/conversations/{conversation}", None),
    ("GET", "/v1/requests/{task}", None),
]


@pytest.mark.parametrize(("method", "path", "body"), FOREIGN)
async def test_what_another_has_is_unknown(
    world: World, method: str, path: str, body: dict[str, Any] | None
) -> None:
    answer = await world.umbrella.request(method, path.format(**world.names), json=body)
    assert answer.status_code == 404, answer.text


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/dead", "letters"),
        ("/v1/schedules", "schedules"),
        ("/v1/collections/default/documents", "documents"),
        ("/v1/tasks", "tasks"),
        ("/v1/sessions", "sessions"),
        ("/v1/requests?kind=task", "requests"),
        ("/v1/usage?by=session", "rows"),
    ],
)
async def test_lists_hold_what_is_ones_own(world: World, path: str, field: str) -> None:
    async def mine() -> bool:
        return bool((await world.acme.get(path)).json()[field])

    await until(mine)
    assert (await world.umbrella.get(path)).json()[field] == []


async def test_a_search_finds_ones_own(world: World) -> None:
    path, body = "/v1/collections/default/search", {"query": "wheel"}
    assert (await world.acme.post(path, json=body)).json()["results"]
    assert (await world.umbrella.post(path, json=body)).json()["results"] == []


async def test_the_same_names_are_other_things(world: World) -> None:
    """Both have a session s1, a schedule and a document of the same name; nobody notices."""
    theirs = {"text": "Nothing turns."}
    url = "/v1/collections/default/documents/d1"
    await world.umbrella.put(url, json=theirs)
    nightly = TASK | {"session": "s9", "every_s": 60}
    await world.umbrella.put("/v1/schedules/nightly", json=nightly)
    done = await world.umbrella.post("/v1/tasks", json=TASK, headers={"Prefer": "wait=30"})
    assert done.json()["state"] == "completed"
    assert (await world.umbrella.delete("/v1/sessions/s1")).status_code < 300
    assert (await world.umbrella.delete("/v1/schedules/nightly")).status_code == 200
    assert (await world.umbrella.delete(url)).status_code == 200
    assert (await world.acme.get(url)).json()["text"] == TEXT
    assert (await world.acme.get("/v1/schedules/nightly")).json()["every_s"] == 3600
    assert len((await world.acme.get("/v1/sessions/s1")).json()["tasks"]) == 1


async def test_a_key_of_one_tenant_cannot_name_another(world: World) -> None:
    headers = {"X-Millrace-Tenant": "acme"}
    answer = await world.umbrella.get("/v1/sessions/s1", headers=headers)
    assert answer.status_code in (403, 404)
