"""Who is let in with an API key, and what an error says in the words of each path."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.ingress.adapters.accounts import Accounts, Times
from services.ingress.adapters.http.access import CALLER_KEY, Access
from services.ingress.core.access.caller import Caller
from services.ingress.core.access.keys import scope_of
from services.ingress.core.access.rates import FAILURES
from shared.contracts.base import SessionRef
from shared.contracts.control import RetryTask
from shared.contracts.facts import Done, Forked
from shared.contracts.keys import Allowance, NewKey
from shared.contracts.tasks import TaskSubmitted
from tests.fakes.ingress_system import FakeSystem
from tests.fakes.keys import NOW, FakeKeys
from tests.unit.ingress.conftest import SCHEDULES

SAY = [{"role": "user", "content": "hi"}]
HELLO = {"agent": "assistant", "input": "Hello"}


@pytest.fixture
def ring() -> FakeKeys:
    return FakeKeys()


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
def accounts(ring: FakeKeys, clock: list[float]) -> Accounts:
    return Accounts(ring, Allowance(), Times(lambda: NOW + 1, lambda: clock[0]))


@pytest.fixture
async def guarded(
    running: tuple[FakeSystem, ASGIApp], system: FakeSystem, ring: FakeKeys, accounts: Accounts
) -> AsyncIterator[httpx.AsyncClient]:
    app = Access(running[1], ring, accounts)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def test_each_path_is_refused_in_its_own_words(guarded: httpx.AsyncClient) -> None:
    chat = await guarded.post("/v1/chat/completions", json={})
    assert (chat.status_code, chat.json()["error"]["code"]) == (401, "missing_api_key")
    assert chat.headers["www-authenticate"] == 'Bearer realm="millrace"'
    messages = await guarded.post("/v1/messages", json={}, headers={"x-api-key": "wrong"})
    assert messages.json()["error"]["type"] == "authentication_error"
    assert 'error="invalid_token"' in messages.headers["www-authenticate"]
    tasks = await guarded.post("/v1/tasks", json=HELLO)
    assert (tasks.status_code, tasks.json()["code"]) == (401, "missing_api_key")
    assert (await guarded.get("/healthz")).status_code == 200
    assert (await guarded.get("/metrics")).status_code == 401


async def test_a_key_in_the_address_is_none(guarded: httpx.AsyncClient, ring: FakeKeys) -> None:
    secret = ring.issue("acme").secret
    answer = await guarded.get(f"/v1/models?api_key={secret}")
    assert answer.json()["error"]["code"] == "missing_api_key"


async def test_the_tenant_is_the_keys(
    guarded: httpx.AsyncClient, ring: FakeKeys, system: FakeSystem
) -> None:
    acme, admin = ring.issue("acme"), ring.issue("root", NewKey(scopes=("admin",)))
    other = {"X-Millrace-Tenant": "umbrella"}
    await guarded.post("/v1/tasks", json=HELLO, headers=bearer(acme.secret) | other)
    await guarded.post("/v1/tasks", json=HELLO, headers={"x-api-key": admin.secret} | other)
    assert [order.ref.tenant for order in system.orders] == ["acme", "umbrella"]


async def test_scopes_and_models_bound_a_key(guarded: httpx.AsyncClient, ring: FakeKeys) -> None:
    order = NewKey(scopes=("tasks",), models=("agent:help*",))
    headers = bearer(ring.issue("acme", order).secret)
    for path in ("/v1/models", "/v1/keys", "/v1/sessions/s1", "/v1/somewhere"):
        answer = await guarded.get(path, headers=headers)
        assert answer.status_code == 403
        assert "scope_denied" in answer.text
    refused = await guarded.post("/v1/tasks", json=HELLO, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "model_not_allowed")


async def test_keys_end(guarded: httpx.AsyncClient, ring: FakeKeys) -> None:
    expired = ring.issue("acme", NewKey(expires=NOW))
    assert (await guarded.get("/v1/models", headers=bearer(expired.secret))).status_code == 401
    old = ring.issue("acme")
    new = await ring.rotate("acme", old.key.id, 60)
    for secret in (old.secret, new.secret):
        assert (await guarded.get("/v1/models", headers=bearer(secret))).status_code == 200
    await ring.rotate("acme", old.key.id, 0)
    late = await guarded.get("/v1/models", headers=bearer(new.secret))
    assert late.json()["error"]["code"] == "key_expired"
    revoked = ring.issue("acme")
    await ring.revoke("acme", revoked.key.id)
    gone = await guarded.get("/v1/models", headers=bearer(revoked.secret))
    assert gone.json()["error"]["code"] == "invalid_api_key"


async def test_nobody_is_trusted_while_the_bus_is_not_heard(
    guarded: httpx.AsyncClient, ring: FakeKeys
) -> None:
    secret, ring.heard = ring.issue("acme").secret, False
    answer = await guarded.get("/v1/models", headers=bearer(secret))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "keys_unavailable")


async def test_who_guesses_waits_and_who_has_a_key_does_not(
    guarded: httpx.AsyncClient, ring: FakeKeys
) -> None:
    secret = ring.issue("acme").secret
    wrong = bearer(secret[:-1] + "f")
    found = [(await guarded.get("/v1/models", headers=wrong)) for _ in range(FAILURES + 1)]
    assert [one.status_code for one in found] == [401] * FAILURES + [429]
    assert int(found[-1].headers["retry-after"]) >= 1
    assert (await guarded.get("/v1/models", headers=bearer(secret))).status_code == 200


async def test_a_tenants_keys_share_its_limit(
    guarded: httpx.AsyncClient, ring: FakeKeys, clock: list[float]
) -> None:
    ring.allowances["acme"] = Allowance(requests_per_minute=2)
    one, two, other = ring.issue("acme"), ring.issue("acme"), ring.issue("umbrella")
    first = await guarded.get("/v1/models", headers=bearer(one.secret))
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    await guarded.get("/v1/models", headers=bearer(two.secret))
    third = await guarded.get("/v1/models", headers=bearer(one.secret))
    assert (third.status_code, third.headers["retry-after"]) == (429, "30")
    assert third.headers["x-ratelimit-limit-requests"] == "2"
    assert (await guarded.get("/v1/models", headers=bearer(other.secret))).status_code == 200
    clock[0] += 30.1
    assert (await guarded.get("/v1/models", headers=bearer(one.secret))).status_code == 200


async def test_whatever_goes_on_later_is_paid_by_the_key_that_asked_for_it(
    guarded: httpx.AsyncClient, ring: FakeKeys, system: FakeSystem
) -> None:
    issued = ring.issue("acme")
    headers, ref = bearer(issued.secret), SessionRef("acme", "s1")
    system.add(ref, TaskSubmitted(input="hi"), "t1", "assistant")
    system.add(ref, Done(task="t1", status="failed"))
    asks = {
        ("PUT", "/v1/schedules/report"): HELLO | {"every_s": 60},
        ("POST", "/v1/tasks/t1/retry?session=s1"): {},
        ("POST", "/v1/sessions/s1/fork"): {"at": "t1.0", "session": "f1"},
    }
    for (method, path), body in asks.items():
        answer = await guarded.request(method, path, json=body, headers=headers)
        assert answer.is_success, answer.text
    (_, retry), forked = system.sent[-1], system.log[-1].fact
    assert SCHEDULES.kept["acme", "report"].schedule.key == issued.key.id
    assert isinstance(retry, RetryTask)
    assert isinstance(forked, Forked)
    assert (retry.key, forked.key) == (issued.key.id, issued.key.id)


@pytest.mark.parametrize(
    "asked",
    [
        ("GET", "/v1/tasks/t1/events", None),
        ("GET", "/v1/sessions/s1/events", None),
        ("GET", "/v1/responses/resp_1?stream=true", None),
        ("POST", "/v1/responses", {"input": "hi"}),
        ("POST", "/v1/chat/completions", {"messages": SAY}),
        ("POST", "/v1/messages", {"messages": SAY, "max_tokens": 9}),
    ],
)
async def test_a_stream_that_has_no_room_is_refused_before_it_causes_anything(
    guarded: httpx.AsyncClient,
    system: FakeSystem,
    accounts: Accounts,
    ring: FakeKeys,
    asked: tuple[str, str, dict[str, object] | None],
) -> None:
    method, path, body = asked
    ring.allowances["acme"], accounts.tenant("acme").streams = Allowance(max_streams=1), 1
    headers = bearer(ring.issue("acme").secret)
    whole = body and {"model": "agent:assistant", "stream": True} | body
    answer = await guarded.request(method, path, json=whole, headers=headers)
    assert (answer.status_code, "too_many_streams" in answer.text) == (429, True)
    assert not system.orders
    assert accounts.tenant("acme").running == 0


async def test_a_websocket_offers_its_key_as_a_protocol(ring: FakeKeys) -> None:
    sent: list[Message] = []
    inside: list[Scope] = []
    accounts = Accounts(ring, Allowance(), Times(lambda: NOW))
    used = accounts.tenant("acme")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        inside.append(scope)
        assert (used.running, used.streams) == (0, 1), "a socket is a stream"
        await send({"type": "websocket.accept"})

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    secret = ring.issue("acme").secret
    scope = {
        "type": "websocket",
        "path": "/v1/sessions/s1/ws",
        "headers": [],
        "subprotocols": ["millrace", f"millrace-key.{secret}"],
    }
    await Access(app, ring, accounts)(scope, receive, send)
    assert (used.running, used.streams) == (0, 0)
    assert sent[0]["subprotocol"] == "millrace"
    assert isinstance(caller := inside[0][CALLER_KEY], Caller)
    assert (caller.tenant, inside[0]["subprotocols"]) == ("acme", ["millrace"])


async def test_the_keys_of_a_tenant_over_http(guarded: httpx.AsyncClient, ring: FakeKeys) -> None:
    admin = bearer(ring.issue("acme", NewKey(scopes=("admin",))).secret)
    body = {"name": "ci", "scopes": ["tasks"], "limits": {"concurrency": 3}}
    # the application of all tests keeps its keys elsewhere than the ring that lets us in
    made = await guarded.post("/v1/keys", json=body, headers=admin)
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    key, secret = made.json()["id"], made.json()["key"]
    shown = await guarded.get(f"/v1/keys/{key}", headers=admin)
    assert (shown.json()["state"], shown.json()["limits"]["concurrency"]) == ("active", 3)
    turned = await guarded.post(f"/v1/keys/{key}/rotate", headers=admin)
    assert turned.json()["key"] != secret
    listed = await guarded.get("/v1/keys", headers=admin)
    assert key in [one["id"] for one in listed.json()["keys"]]
    assert not any(word in listed.text for word in ("digest", secret, turned.json()["key"]))
    foreign = await guarded.get(f"/v1/keys/{key}", headers=admin | {"X-Millrace-Tenant": "b"})
    assert (foreign.status_code, foreign.json()["code"]) == (404, "unknown_key")
    ended = await guarded.delete(f"/v1/keys/{key}", headers=admin)
    assert ended.json()["state"] == "revoked"


def test_an_unknown_path_needs_the_most() -> None:
    assert {scope_of(path) for path in ("/", "/v1", "/v1/new", "/v2/tasks", "/metrics")} == {
        "admin"
    }
