"""`/v1/dead` and `DELETE /v1/sessions/{id}` over HTTP."""

import pytest

from shared.contracts.base import SessionRef
from tests.fakes.housekeeping import filed

REF = SessionRef("default", "s1")
ACME = {"X-Millrace-Tenant": "acme"}


@pytest.fixture(autouse=True)
def letters(house):
    house.letters_.found = [filed(1), filed(2, code="away"), filed(3, "acme"), filed(4, session="")]


async def test_letters_are_listed_page_by_page_without_bodies(http):
    first = (await http.get("/v1/dead", params={"limit": 2})).json()
    rest = (await http.get("/v1/dead", params={"after": first["next"]})).json()
    assert [one["id"] for one in first["letters"] + rest["letters"]] == [1, 2, 4]
    assert rest["next"] is None
    assert first["letters"][0]["error"]["code"] == "engine_broken"
    assert "body" not in first["letters"][0]
    assert rest["letters"][0]["session"] is None


async def test_letters_are_filtered(http):
    found = (await http.get("/v1/dead", params={"code": "away", "session": "s1"})).json()
    assert [one["id"] for one in found["letters"]] == [2]


async def test_a_letter_has_its_message_and_its_tries(http):
    letter = (await http.get("/v1/dead/1")).json()
    assert (letter["body"], letter["original"], letter["stream"]) == (
        '{"task": "t1"}',
        "whole",
        "WORK",
    )
    assert [one["delivery"] for one in letter["tries"]] == [39]
    assert letter["retried"] is None


async def test_a_retry_happens_once(http, house):
    first = await http.post("/v1/dead/1/retry", json={"by": "ada"})
    second = await http.post("/v1/dead/1/retry")
    assert first.status_code == second.status_code == 202
    assert first.json() == second.json()
    assert first.json()["retried"]["sequence"] == 77
    assert house.letters_.sent == [(1, "ada")]
    assert (await http.get("/v1/dead/1")).json()["retried"]["by"] == "ada"


@pytest.mark.parametrize("path", ["/v1/dead/3", "/v1/dead/99", "/v1/dead/3/retry"])
async def test_what_is_not_ones_own_does_not_exist(http, path):
    method = "POST" if path.endswith("retry") else "GET"
    response = await http.request(method, path)
    assert (response.status_code, response.json()["code"]) == (404, "unknown_letter")


async def test_a_tenant_sees_its_own(http):
    assert (await http.get("/v1/dead/3", headers=ACME)).status_code == 200
    found = (await http.get("/v1/dead", headers=ACME)).json()
    assert [one["id"] for one in found["letters"]] == [3]


@pytest.mark.parametrize(
    ("path", "field"),
    [("/v1/dead?limit=0", "limit"), ("/v1/dead?after=x", "after"), ("/v1/dead/x", "letter")],
)
async def test_a_wrong_question_names_the_field(http, path, field):
    response = await http.get(path)
    assert (response.status_code, response.json()["field"]) == (422, field)


async def test_a_session_is_deleted(http, house):
    house.sessions = {REF}
    response = await http.delete("/v1/sessions/s1")
    assert response.status_code == 200
    assert response.json() == {"session": "s1", "sequence": 44, "complete": True}
    again = await http.delete("/v1/sessions/s1")
    assert (again.status_code, again.json()["code"]) == (404, "unknown_session")


async def test_a_deletion_that_goes_on_by_itself_is_accepted(http, house):
    house.sessions, house.complete = {REF}, False
    assert (await http.delete("/v1/sessions/s1")).status_code == 202


async def test_a_running_task_is_a_conflict_unless_forced(http, house):
    house.sessions = house.busy = {REF}
    response = await http.delete("/v1/sessions/s1")
    assert (response.status_code, response.json()["code"]) == (409, "session_busy")
    assert (await http.delete("/v1/sessions/s1", params={"force": "true"})).status_code == 200


async def test_another_tenant_cannot_delete_it(http, house):
    house.sessions = {REF}
    assert (await http.delete("/v1/sessions/s1", headers=ACME)).status_code == 404
    assert house.sessions == {REF}


@pytest.mark.parametrize("name", ["a.b", "_direct"])
async def test_a_name_that_is_none_is_refused(http, name):
    response = await http.delete(f"/v1/sessions/{name}")
    assert (response.status_code, response.json()["field"]) == (422, "session")
