"""An idempotency key stands for one request: with another body it is a conflict in every face."""

import pytest

from services.ingress.core.access.caller import Caller
from services.ingress.core.chat.body import ChatBody
from services.ingress.core.responses.fold import ECHO
from services.ingress.core.tasks.bodies import AskBody, TaskBody
from services.ingress.core.tasks.repetition import check_same_task, fingerprint_of
from services.ingress.handlers.tasks import TaskHandlers
from shared.contracts.agents import Limits, ToolSpec
from shared.contracts.base import SessionRef
from shared.contracts.facts import Accepted, Done, Inferred, Parked, ToolCall, Totals, Usage
from shared.contracts.tasks import Parent, TaskSubmitted, check_repeated
from shared.errors import Permanent, Transient
from tests.fakes.ingress_system import AGENT

PLAN = [
    Inferred(task="", step=0, content="391", cuts=(1, 3), usage=Usage(input=5, output=3)),
    Done(task="", status="completed", output="391", totals=Totals(usage=Usage(input=5, output=3))),
]
HEADERS = {"Idempotency-Key": "k1"}
HI = [{"role": "user", "content": "hi"}]
TASK = {"agent": "assistant", "input": "hi"}
ACCEPTED = Accepted(
    task="t",
    agent=AGENT,
    revision=1,
    limits=Limits(),
    sampling=AGENT.sampling,
    source=1,
    deadline=9e9,
)
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
    assert other.headers["x-should-retry"] == "false"  # OpenAI's and Anthropic's clients obey
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


async def test_a_key_names_one_session_also_while_its_task_waits(http, system):
    first = await http.post("/v1/tasks", json=TASK | {"session": "a"}, headers=HEADERS)
    system.log.clear()  # as for another replica that cannot find what was never accepted
    other = await http.post("/v1/tasks", json=TASK | {"session": "b"}, headers=HEADERS)
    again = await http.post("/v1/tasks", json=TASK | {"session": "a"}, headers=HEADERS)
    assert (other.status_code, code_of(other)) == (409, "idempotency_conflict")
    assert again.json() == first.json()


@pytest.mark.parametrize(("verb", "body"), [("steer", {"text": "in German"}), ("retry", {})])
async def test_a_key_of_a_verb_is_of_one_task(http, system, verb, body):
    for name in ("t1", "t2"):
        system.add(SessionRef("default", "s"), TaskSubmitted(input="hi"), name, "assistant")
    answers = [
        await http.post(f"/v1/tasks/{name}/{verb}", json=body, headers=HEADERS)
        for name in ("t1", "t1", "t2")
    ]
    assert [one.status_code for one in answers] == [202, 202, 409]
    assert code_of(answers[2]) == "idempotency_conflict"


async def test_a_key_of_items_is_of_one_conversation(http):
    said = {"items": [{"type": "message", "role": "user", "content": "hi"}]}
    names = [(await http.post("/v1/conversations", json={})).json()["id"] for _ in "ab"]
    paths = [f"/v1/conversations/{name}/items" for name in (names[0], names[0], names[1])]
    answers = [await http.post(path, json=said, headers=HEADERS) for path in paths]
    assert [one.status_code for one in answers] == [200, 200, 409]


RESULTS = {
    "/v1/chat/completions": {
        "model": "agent:assistant",
        "messages": [*HI, {"role": "tool", "tool_call_id": "call_t_0_0", "content": "42"}],
    },
    "/v1/responses": {
        "model": "agent:assistant",
        "input": [{"type": "function_call_output", "call_id": "call_t_0_0", "output": "42"}],
    },
    "/v1/messages": {
        "model": "agent:assistant",
        "max_tokens": 50,
        "messages": [
            *HI,
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "call_t_0_0", "name": "mine", "input": {}}],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_t_0_0", "content": "42"},
                ],
            },
        ],
        "tools": [{"name": "mine", "input_schema": {"type": "object"}}],
    },
}


@pytest.mark.parametrize("path", RESULTS)
async def test_a_key_of_results_is_of_one_request(http, system, path):
    """Results begin no task whose fact could bear a mark."""
    ask = RESULTS[path]
    _asking(system)
    first = await http.post(path, json=ask | {"stream": True}, headers=HEADERS)
    again = await http.post(path, json=ask | {"stream": True}, headers=HEADERS)
    other = await http.post(path, json=ask | {"temperature": 0.5}, headers=HEADERS)
    assert (first.status_code, again.status_code) == (200, 200)
    assert (other.status_code, code_of(other)) == (409, "idempotency_conflict")


def _asking(system):
    """A task that has called its client's tool, and what will come behind the result."""
    ref, call = SessionRef("default", "s-t"), ToolCall(id="call_t_0_0", name="mine", arguments="{}")
    mine = (ToolSpec(name="mine", parameters={"type": "object"}),)
    asked = TaskSubmitted(input="hi", tools=mine, metadata={ECHO: "{}"})
    system.add(ref, asked, "t", "assistant")
    system.add(ref, ACCEPTED)
    system.add(ref, Inferred(task="t", step=0, content="", tool_calls=(call,), finish="tool_calls"))
    system.add(ref, Parked(task="t", step=1, reason="client_tool"))
    system.plan = [
        Inferred(task="t", step=2, content="got 42"),
        Done(task="t", status="completed", output="got 42", totals=Totals()),
    ]


async def test_a_key_whose_request_is_refused_is_free_again(http, system):
    unknown = await http.post("/v1/tasks", json=TASK | {"agent": "nobody"}, headers=HEADERS)
    right = await http.post("/v1/tasks", json=TASK, headers=HEADERS)
    assert (unknown.status_code, right.status_code) == (404, 202)


async def test_a_key_that_could_not_be_used_up_stands_for_the_same_request(http, system):
    """What has failed for the moment may have been done all the same."""
    system.refuse = Transient("bus_unavailable", "away")
    away = await http.post("/v1/tasks", json=TASK, headers=HEADERS)
    system.refuse = None
    other = await http.post("/v1/tasks", json=TASK | {"input": "ho"}, headers=HEADERS)
    same = await http.post("/v1/tasks", json=TASK, headers=HEADERS)
    assert [one.status_code for one in (away, other, same)] == [503, 409, 202]


async def test_another_callers_key_is_another_key(system):
    handlers, body = TaskHandlers(system, system, system), TaskBody.model_validate(TASK)
    ours = await handlers.submit(Caller(key="k_a"), body, "k1")
    theirs = await handlers.submit(Caller(key="k_b"), body, "k1")
    again = await handlers.submit(Caller(key="k_a"), body, "k1")
    assert ours.id == again.id != theirs.id


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
