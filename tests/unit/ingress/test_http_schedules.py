"""`/v1/schedules` over HTTP."""

import pytest

from shared.contracts.schedules import Schedule
from shared.contracts.tasks import TaskSubmitted
from tests.unit.ingress.conftest import SCHEDULES

ASK = {"agent": "assistant", "input": "Anything new?"}
URL = "/v1/schedules/report"


async def test_a_schedule_is_stored_shown_and_removed(http):
    body = ASK | {"session": "s1", "every_s": 90, "on_busy": "reject", "metadata": {"a": "b"}}
    assert (await http.put(URL, json=body)).json() == {"name": "report", "sequence": 1}
    task = TaskSubmitted(input="Anything new?", on_busy="reject", metadata={"a": "b"})
    kept = SCHEDULES.kept["default", "report"].schedule
    assert kept == Schedule(agent="assistant", task=task, session="s1", every_s=90)
    shown = (await http.get(URL)).json()
    assert {name: shown[name] for name in body} == body
    assert (shown["name"], shown["at"], shown["last"]) == ("report", None, None)
    assert (await http.get("/v1/schedules")).json() == {"schedules": [shown]}
    assert (await http.delete(URL)).json() == {"name": "report", "deleted": True}
    assert (await http.get("/v1/schedules")).json() == {"schedules": []}


async def test_a_time_has_an_offset(http):
    await http.put(URL, json=ASK | {"at": "2030-01-01T01:00:00+01:00"})
    assert (await http.get(URL)).json()["at"] == 1_893_456_000.0
    response = await http.put(URL, json=ASK | {"at": "2030-01-01T01:00:00"})
    assert (response.status_code, response.json()["field"]) == (422, "at")


async def test_cron_in_a_time_zone(http):
    body = ASK | {"cron": "0 8 * * MON-FRI", "zone": "Europe/Berlin"}
    assert (await http.put(URL, json=body)).status_code == 200
    shown = (await http.get(URL)).json()
    assert (shown["cron"], shown["zone"], shown["session"]) == (body["cron"], body["zone"], None)


@pytest.mark.parametrize(
    ("change", "status", "code", "field"),
    [
        ({}, 422, "invalid_schedule", "at"),
        ({"every_s": 5, "cron": "@daily"}, 422, "invalid_schedule", "at"),
        ({"at": "2020-01-01T00:00:00Z"}, 422, "invalid_schedule", "at"),
        ({"cron": "hello"}, 422, "invalid_schedule", "cron"),
        ({"every_s": 5, "zone": "UTC"}, 422, "invalid_schedule", "zone"),
        ({"every_s": 0}, 422, "invalid_request", "every_s"),
        ({"every_s": 1.5}, 422, "invalid_request", "every_s"),
        ({"at": "soon"}, 422, "invalid_request", "at"),
        ({"every_s": 5, "agent": "nobody"}, 404, "unknown_agent", "agent"),
        ({"every_s": 5, "session": "a.b"}, 422, "invalid_name", "session"),
        ({"every_s": 5, "idempotency_key": "x"}, 422, "invalid_request", "idempotency_key"),
    ],
)
async def test_a_bad_schedule_names_the_field(http, change, status, code, field):
    response = await http.put(URL, json=ASK | change)
    body = response.json()
    assert (response.status_code, body["code"], body["field"]) == (status, code, field)
    assert not SCHEDULES.kept


async def test_names_and_what_is_not_there(http):
    response = await http.put("/v1/schedules/a.b", json=ASK | {"every_s": 5})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_name")
    for call in (http.get, http.delete):
        response = await call(URL)
        assert (response.status_code, response.json()["code"]) == (404, "unknown_schedule")


async def test_tenants_do_not_see_each_other(http):
    await http.put(URL, json=ASK | {"every_s": 5})
    acme = {"X-Millrace-Tenant": "acme"}
    assert (await http.get("/v1/schedules", headers=acme)).json() == {"schedules": []}
    assert (await http.delete(URL, headers=acme)).status_code == 404
