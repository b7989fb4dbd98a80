"""`POST /v1/sessions/{id}/fork` over HTTP."""

from shared.contracts.base import SessionRef
from shared.contracts.facts import Done
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Permanent

REF = SessionRef("default", "s1")


def ended(system):
    system.add(REF, TaskSubmitted(input="hi"), "t1", "assistant")
    system.add(REF, Done(task="t1", status="completed", output="ho"))


async def test_a_fork_is_made_and_named(http, system):
    ended(system)
    response = await http.post("/v1/sessions/s1/fork", json={"at": "t1.0", "session": "f1"})
    assert response.status_code == 202
    assert response.headers["location"] == "/v1/sessions/f1"
    assert response.json() == {
        "session": "f1",
        "task": "t1",
        "parent": "s1",
        "step": 0,
        "events": "/v1/tasks/t1/events?session=f1",
    }


async def test_what_is_refused(http, system):
    ended(system)
    url = "/v1/sessions/s1/fork"
    for body, status in (({"at": "x"}, 422), ({}, 422), ({"at": "1", "more": 1}, 422)):
        assert (await http.post(url, json=body)).status_code == status
    missing = await http.post("/v1/sessions/s7/fork", json={"at": "0"})
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_session")
    for code, status in (("session_exists", 409), ("unknown_step", 404)):
        system.refuse = Permanent(code, "no")
        assert (await http.post(url, json={"at": "0"})).status_code == status
