"""Refused requests, counted so that they cannot flood the log; and which of them are anybody's."""

from __future__ import annotations

import httpx
import pytest
from starlette.types import ASGIApp

from services.ingress.adapters.accounts import Accounts, Times
from services.ingress.adapters.http.access import Access
from services.ingress.adapters.http.metrics import Metrics
from services.ingress.adapters.http.middleware import Measured, Trace
from services.ingress.adapters.http.recording import Recording
from services.ingress.core.access.refusals import SOONEST, Kind, Tallies
from shared.contracts.keys import Allowance, NewKey
from tests.fakes.ingress_system import FakeSystem
from tests.fakes.keys import NOW, FakeKeys

FULL = Kind("acme", "rate_limited", 429, "POST /v1/tasks", "k1")


def test_the_first_is_told_at_once_and_a_flood_once_a_minute() -> None:
    tallies = Tallies()
    told = []
    for second in range(150):
        for _ in range(20):
            tallies.note(FULL, float(second), f"trace{second}")
        told += [tally for _, tally in tallies.due(float(second))]
    assert [one.count for one in told] == [20, 1200, 1200]
    assert (told[1].since, told[1].until, told[1].trace_id) == (1.0, 60.0, "trace60")
    (rest,) = tallies.due(150.0, every=True)
    assert rest == (FULL, rest[1])
    assert sum(one.count for one in told) + rest[1].count == 3000, "none is lost"


def test_what_is_told_is_forgotten_and_told_at_once_again() -> None:
    tallies = Tallies()
    tallies.note(FULL, 0.0, "")
    assert tallies.due(0.0)
    assert not tallies.due(SOONEST + 1)
    tallies.note(FULL, SOONEST + 2, "")
    assert tallies.due(SOONEST + 2)


def test_too_many_kinds_are_counted_together() -> None:
    tallies = Tallies(kinds=3)
    for number in range(10):
        tallies.note(Kind("acme", "not_found", 404, f"GET /{number}", f"k{number}"), 0.0, "")
    found = dict(tallies.due(0.0))
    assert len(found) == 4
    assert found[Kind("acme", "not_found", 404)].count == 7
    for number in range(10):
        tallies.note(Kind(f"tenant{number}", "not_found", 404), 100.0, "")
    assert len(tallies.due(100.0)) == 6


def test_what_cannot_be_told_is_told_later_with_what_came_meanwhile() -> None:
    tallies = Tallies()
    tallies.note(FULL, 1.0, "")
    ((kind, tally),) = tallies.due(1.0)
    tallies.note(FULL, 2.0, "last")
    tallies.keep(kind, tally)
    ((_, both),) = tallies.due(2.0)
    assert (both.count, both.since, both.until, both.trace_id) == (2, 1.0, 2.0, "last")


@pytest.fixture
def noted() -> list[Kind]:
    return []


async def ask(app: ASGIApp, secret: str, method: str, path: str, **more: object) -> int:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        headers = {"Authorization": f"Bearer {secret}"}
        answer = await client.request(method, path, headers=headers, **more)  # type: ignore[arg-type]  # json
    return answer.status_code


async def test_a_refusal_belongs_to_whoever_the_key_says(
    running: tuple[FakeSystem, ASGIApp], system: FakeSystem, noted: list[Kind]
) -> None:
    ring = FakeKeys()
    accounts = Accounts(ring, Allowance(), Times(lambda: NOW + 1, lambda: 1000.0))
    recording = Recording(lambda kind, _: noted.append(kind), open_=False)
    app = Trace(Measured(Access(running[1], ring, accounts), Metrics(), recording))
    issued = ring.issue("acme", NewKey(scopes=("tasks",), allowance=Allowance(concurrency=1)))
    key, secret = issued.key.id, issued.secret
    assert await ask(app, "mr_nobody", "GET", "/v1/tasks/t1") == 401
    assert await ask(app, secret, "GET", "/v1/tasks/t1") == 404
    assert await ask(app, secret, "GET", "/v1/models") == 403
    assert await ask(app, secret, "POST", "/v1/tasks", json={"agent": "assistant"}) == 422
    accounts.key(key).running += 1
    assert await ask(app, secret, "GET", "/v1/tasks/t1") == 429
    assert await ask(app, secret, "GET", "/healthz") == 200
    assert [(one.tenant, one.key) for one in noted] == [("acme", key)] * 4
    assert [(one.code, one.status, one.route) for one in noted] == [
        ("unknown_task", 404, "GET /v1/tasks/{task}"),
        ("scope_denied", 403, "GET /v1/models"),
        ("invalid_request", 422, "POST /v1/tasks"),
        ("rate_limited", 429, "GET /v1/tasks"),
    ]


async def test_a_tenant_is_believed_only_where_there_are_no_keys(noted: list[Kind]) -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/tasks",
        "headers": [(b"x-millrace-tenant", b"acme")],
        "millrace.code": "queue_full",
    }
    Recording(lambda kind, _: noted.append(kind), open_=False).ended(scope, "/v1/tasks", 503)
    assert noted == []
    Recording(lambda kind, _: noted.append(kind), open_=True).ended(scope, "/v1/tasks", 503)
    scope["millrace.code"] = "foreign_origin"
    Recording(lambda kind, _: noted.append(kind), open_=True).ended(scope, "/v1/tasks", 403)
    assert noted == [Kind("acme", "queue_full", 503, "POST /v1/tasks")]
