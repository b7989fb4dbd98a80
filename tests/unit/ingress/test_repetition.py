"""An idempotency key stands for one request: with another body it is a conflict in every face."""

import pytest

from services.ingress.core.chat.body import ChatBody
from services.ingress.core.tasks.bodies import AskBody, TaskBody
from services.ingress.core.tasks.repetition import check_same_task, fingerprint_of
from shared.contracts.base import SessionRef
from shared.contracts.facts import Done, Inferred, Totals, Usage
from shared.contracts.tasks import Parent, TaskSubmitted, check_repeated
from shared.errors import Permanent

PLAN = [
    Inferred(task="", step=0, content="391", cuts=(1, 3), usage=Usage(input=5, output=3)),
    Done(task="", status="completed", output="391", totals=Totals(usage=Usage(input=5, output=3))),
]
HEADERS = {"Idempotency-Key": "k1"}
HI = [{"role": "user", "content": "hi"}]
FACES = {
    "/v1/tasks": ({"agent": "assistant", "input": "hi"}, {"input": "ho"}),
    "/v1/chat/completions": (
        {"model": "agent:assistant", "messages": HI},
        {"temperature": 0.5},
    ),
    "/v1/messages": (
        {"model": "agent:assistant", "max_tokens": 50, "messages": HI},
        {"max_tokens": 51},
    ),
    "/v1/responses": ({"model": "agent:assistant", "input": "hi"}, {"instructions": "In Latin."}),
}


def code_of(response):
    body = response.json()
    return body["code"] if "code" in body else body["error"]["code"]


@pytest.mark.parametrize("path", FACES)
async def test_the_same_key_with_another_body_is_a_conflict(http, system, path):
    system.plan = PLAN
    ask, change = FACES[path]
    first = await http.post(path, json=ask, headers=HEADERS)
    again = await http.post(path, json=ask, headers=HEADERS)
    other = await http.post(path, json=ask | change, headers=HEADERS)
    assert first.is_success
    assert again.status_code == first.status_code
    assert (other.status_code, code_of(other)) == (409, "idempotency_conflict")
    assert len(system.orders) == 1


async def test_a_key_of_one_face_is_no_key_of_another(http, system):
    system.plan = PLAN
    await http.post("/v1/tasks", json=FACES["/v1/tasks"][0], headers=HEADERS)
    for path in list(FACES)[1:]:
        other = await http.post(path, json=FACES[path][0], headers=HEADERS)
        assert (path, other.status_code) == (path, 409)


async def test_how_an_answer_comes_is_not_what_is_asked(http, system):
    system.plan = PLAN
    path = "/v1/chat/completions"
    ask, _ = FACES[path]
    whole = await http.post(path, json=ask, headers=HEADERS)
    streamed = await http.post(path, json=ask | {"stream": True}, headers=HEADERS)
    assert streamed.status_code == 200
    assert whole.json()["id"] in streamed.text


async def test_a_retry_is_asked_for_by_its_own_key(http, system):
    task = (await http.post("/v1/tasks", json=FACES["/v1/tasks"][0])).json()["task"]
    taken = await http.post("/v1/tasks", json=FACES["/v1/tasks"][0], headers=HEADERS)
    session = SessionRef("default", taken.json()["session"])
    system.add(session, TaskSubmitted(input="", retry_of=task), "again", "assistant")
    ask = FACES["/v1/tasks"][0] | {"session": session.session}
    other = await http.post("/v1/tasks", json=ask, headers={"Idempotency-Key": "again"})
    assert (other.status_code, code_of(other)) == (409, "idempotency_conflict")


async def test_a_key_sets_one_thing_down(http):
    path = "/v1/conversations"
    made = await http.post(path, json={"metadata": {"a": "1"}}, headers=HEADERS)
    other = await http.post(path, json={"metadata": {"a": "2"}}, headers=HEADERS)
    assert (made.status_code, other.status_code) == (200, 409)
    assert code_of(other) == "idempotency_conflict"
    items = f"{path}/{made.json()['id']}/items"
    for text, status in (("one", 200), ("two", 409)):
        said = {"type": "message", "role": "user", "content": text}
        answer = await http.post(items, json={"items": [said]}, headers={"Idempotency-Key": "k2"})
        assert answer.status_code == status


def test_the_order_of_members_and_a_null_make_no_difference():
    one = TaskBody.model_validate({"agent": "a", "input": "hi", "metadata": {"x": "1", "y": "2"}})
    other = TaskBody.model_validate(
        {"metadata": {"y": "2", "x": "1"}, "input": "hi", "agent": "a", "session": None}
    )
    assert fingerprint_of(one) == fingerprint_of(other)
    changed = one.model_copy(update={"metadata": {"x": "1", "y": "3"}})
    assert fingerprint_of(one) != fingerprint_of(changed)
    asked = AskBody.model_validate({"agent": "a", "input": "hi", "metadata": {"x": "1", "y": "2"}})
    assert fingerprint_of(one) != fingerprint_of(asked)


def test_a_number_of_any_length_has_a_fingerprint():
    odd = ChatBody.model_validate(
        {
            "model": "agent:a",
            "messages": HI,
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "f", "parameters": {"const": 10**40}},
                }
            ],
        }
    )
    assert len(fingerprint_of(odd)) == 32


def test_a_task_of_an_older_release_has_no_fingerprint_and_passes():
    check_repeated(TaskSubmitted(input="hi"), "f1")
    check_repeated(TaskSubmitted(input="hi", fingerprint="f1"), "f1")
    check_same_task([], "f1")


@pytest.mark.parametrize(
    "known",
    [
        TaskSubmitted(input="hi", fingerprint="f2"),
        TaskSubmitted(input="", retry_of="t0"),
        TaskSubmitted(input="hi", parent=Parent(session="s", task="t", step=1, call="c", name="n")),
    ],
)
def test_what_another_request_named_is_a_conflict(known):
    with pytest.raises(Permanent, match="take a new one") as caught:
        check_repeated(known, "f1")
    assert (caught.value.code, caught.value.field) == ("idempotency_conflict", "idempotency_key")
