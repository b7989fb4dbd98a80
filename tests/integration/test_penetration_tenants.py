"""A tenant that knows every name of another one: over every route that takes a name, the answer is
that to a name that nothing has, and no word of the other's is in it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection, connect

from tests.integration.two_tenants import (
    TASK,
    WORD,
    Way,
    World,
    all_ways,
    made,
    two_tenants,
    unlike,
)
from tests.integration.waiting import until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]
BODIES: dict[str, Any] = {
    "POST /v1/tasks/{task}/steer": {"text": "hello"},
    "POST /v1/tasks/{task}/approve": {"step": 1},
    "POST /v1/tasks/{task}/reject": {"step": 1},
    "POST /v1/sessions/{session}/fork": {"at": "1"},
    "POST /v1/conversations/{conversation_id}": {"metadata": {"a": "b"}},
    "POST /v1/conversations/{conversation_id}/items": {
        "items": [{"type": "message", "role": "user", "content": "hello"}]
    },
}
"""What has to be sent; without a body that fits, a route would refuse whatever the name is."""
OWN: dict[str, Any] = {
    "PUT /v1/schedules/{name}": TASK | {"input": "steps 0", "every_s": 3600},
    "PUT /v1/collections/{collection}/documents/{document:path}": {"text": "Nothing turns."},
    "GET /v1/collections/{collection}/documents": None,
    "POST /v1/collections/{collection}/search": {"query": WORD},
}
"""Routes where every name is one's own to use."""
APART = {
    "GET /v1/sessions/{session}/events",
    "WS /v1/sessions/{session}/ws",
    "GET /v1/models/{model:path}",
}
"""Streams without an end, which have tests of their own; and the models are all tenants'."""
WAYS = [way for way in all_ways() if way.takes]
HIDDEN = [way for way in WAYS if str(way) not in OWN and str(way) not in APART]
LISTS = [way for way in all_ways() if not way.takes and way.method == "GET"]
_TELLING = {"date", "x-trace-id", "traceparent", "content-length"}
"""Headers that differ between any two answers."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with two_tenants(tmp_path_factory.mktemp("tenants")) as found:
        yield found


async def test_the_table_of_routes_is_whole() -> None:
    """What is listed by hand is there, and what is there was understood."""
    names = {str(way) for way in WAYS}
    assert {*BODIES, *OWN, *APART} <= names
    assert len(HIDDEN) > 25
    assert len(LISTS) > 10


def told(way: Way, answer: httpx.Response, names: dict[str, str]) -> tuple[int, object, str]:
    """All that an answer says, without the names that were asked for and what always differs."""
    text = re.sub(r'"trace_id":"\w+"', "", answer.text)
    for kind in way.takes:
        text = re.sub(rf"\b{names[kind]}\b", "NAME", text)
    headers = {name: value for name, value in answer.headers.items() if name not in _TELLING}
    headers = {name: value for name, value in headers.items() if not name.startswith("x-ratelimit")}
    return answer.status_code, headers, text


@pytest.mark.parametrize("way", [way for way in HIDDEN if way.method == "GET"], ids=str)
async def test_its_owner_finds_it_by_that_name(world: World, way: Way) -> None:
    """Or what follows would show nothing."""
    hint = "?session=s1" if "task" in way.takes else ""
    assert (await world.acme.get(way.to(world.names) + hint)).status_code == 200


@pytest.mark.parametrize("way", HIDDEN, ids=str)
@pytest.mark.parametrize("hint", ["", "?session=s1"], ids=["plain", "hinted"])
async def test_a_name_of_anothers_is_one_that_nothing_has(
    world: World, way: Way, hint: str
) -> None:
    if hint and "task" not in way.takes:
        hint = ""
    assert way.takes <= set(world.names), "a route with a new kind of name: give the world one"
    body = {"json": BODIES[str(way)]} if str(way) in BODIES else {}
    nothing = {kind: unlike(name) for kind, name in world.names.items()}
    mine = await world.umbrella.request(way.method, way.to(world.names) + hint, **body)
    other = await world.umbrella.request(way.method, way.to(nothing) + hint, **body)
    assert WORD not in mine.text + repr(mine.headers)
    assert mine.status_code == 404, f"{mine.text}\n(a new route? it may need a body in BODIES)"
    assert told(way, mine, world.names) == told(way, other, nothing)


@pytest.mark.parametrize("verb", ["approve", "reject"])
@pytest.mark.parametrize("hint", ["", "?session=s1"], ids=["plain", "hinted"])
async def test_no_step_of_anothers_waits_for_anybody(world: World, verb: str, hint: str) -> None:
    """Without a step the one that waits is looked for; here, and after a look for the session."""
    task, answers = world.names["task"], []
    for name in (task, unlike(task)):
        answer = await world.umbrella.post(f"/v1/tasks/{name}/{verb}{hint}", json={})
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_task")
        answers.append(told(Way("POST", "{task}"), answer, {"task": name}))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("way", OWN, ids=str)
async def test_a_name_that_is_free_to_use_opens_ones_own(world: World, way: str) -> None:
    found = next(one for one in WAYS if str(one) == way)
    nothing = {kind: unlike(name) for kind, name in world.names.items()}

    async def alike() -> bool:
        both = []
        for names in (world.names, nothing):
            sent = {} if OWN[way] is None else {"json": OWN[way]}
            answer = await world.umbrella.request(found.method, found.to(names), **sent)
            assert answer.status_code == 200, answer.text
            assert WORD not in answer.text
            status, headers, text = told(found, answer, names)
            both.append((status, headers, re.sub(r"[0-9.]+", "0", text)))  # times and sequences
            if found.method == "PUT":
                await made(world.umbrella, "DELETE", found.to(names))
        return both[0] == both[1]

    await until(alike)  # the index forgets a moment later what another case here has stored


@pytest.mark.parametrize("way", LISTS, ids=str)
async def test_no_list_has_a_word_of_anothers(world: World, way: Way) -> None:
    wanted = [name for name in world.names.values() if len(name) > 8]
    for hint in ("", "?session=s1", f"?task={world.names['task']}", f"?text={WORD}"):
        answer = await world.umbrella.get(way.path + hint)
        assert answer.status_code in (200, 404, 422), answer.text
        text = answer.text.replace(f"text={WORD}", "")
        assert WORD not in text
        assert [name for name in wanted if name in text and name not in hint] == []


CREATED = {"type": "response.create", "model": "agent:assistant", "input": "steps 0"}
MENTIONS: list[tuple[str, str]] = [
    ("previous_response_id", "response_id"),
    ("conversation", "conversation_id"),
]
"""Members of a body that name something."""


@pytest.mark.parametrize(("member", "kind"), MENTIONS)
async def test_what_a_body_names_is_unknown_too(world: World, member: str, kind: str) -> None:
    answers = []
    for name in (world.names[kind], unlike(world.names[kind])):
        body = CREATED | {member: name}
        answer = await world.umbrella.post(
            "/v1/responses", json={k: v for k, v in body.items() if k != "type"}
        )
        async with connect(
            world.socket("/v1/responses"), additional_headers=world.key, proxy=None
        ) as socket:
            await socket.send(orjson.dumps(body).decode())
            frame = orjson.loads(await socket.recv())
        assert (answer.status_code, frame["type"]) == (404, "error")
        texts = (answer.text, orjson.dumps(frame).decode())
        assert WORD not in "".join(texts)
        answers.append(
            [re.sub(r'"trace_id":"\w+"', "", one.replace(name, "NAME")) for one in texts]
        )
    assert answers[0] == answers[1]


async def test_an_idempotency_key_of_anothers_repeats_nothing(world: World) -> None:
    ask = {"model": "default", "messages": [{"role": "user", "content": f"steps 0\n{WORD}"}]}
    for path, body in (
        ("/v1/chat/completions", ask),
        ("/v1/tasks", TASK | {"session": "s3"}),
        ("/v1/responses", {"model": "agent:assistant", "input": f"steps 0\n{WORD}"}),
        ("/v1/conversations", {"metadata": {"word": WORD}}),
    ):
        key = {"Idempotency-Key": f"for {path}"}
        theirs = (await world.acme.post(path, json=body, headers=key)).json()
        other = orjson.loads(orjson.dumps(body).replace(WORD.encode(), b""))
        mine = await world.umbrella.post(path, json=other, headers=key)
        assert mine.status_code < 300, mine.text
        assert WORD not in mine.text
        assert mine.json().get("id", mine.json().get("task")) not in (
            theirs.get("id"), theirs.get("task")
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["tasks", "sessions"])
async def test_a_cursor_of_anothers_is_of_another_session(world: World, kind: str) -> None:
    """As one of a session of one's own is; without any, one's own events are there."""
    ask = TASK | {"input": "steps 1"}
    other = await made(world.umbrella, "POST", "/v1/tasks", ask | {"session": "o1"})
    stream = await world.umbrella.get(f"/v1/tasks/{other['task']}/events?session=o1")
    own = re.findall(r"^id: ?(\d+)", stream.text, re.MULTILINE)[-1]
    done = await made(world.umbrella, "POST", "/v1/tasks", ask)
    path = {"tasks": f"/v1/tasks/{done['task']}/events?session=s1",
            "sessions": "/v1/sessions/s1/events"}[kind]  # fmt: skip
    answers = set()
    for cursor in (world.cursors[0], world.cursors[-1], own):
        answer = await world.umbrella.get(path, headers={"Last-Event-ID": cursor})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor")
        answers.add(re.sub(r'"trace_id":"\w+"|\d+', "", answer.text))
    assert len(answers) == 1
    assert WORD not in str(answers)
    async with world.umbrella.stream("GET", path) as stream:
        text = ""
        async for part in stream.aiter_text():
            text += part
            if "event: done" in text.partition(done["task"])[2]:
                break
    assert WORD not in text


class Talk:
    """A socket in which no word of another's may be said."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def heard(self) -> dict[str, Any]:
        text = await self._socket.recv()
        assert WORD not in str(text)
        frame: dict[str, Any] = orjson.loads(text)
        return frame

    async def answer(self, kind: str, **more: Any) -> dict[str, Any]:
        await self._socket.send(orjson.dumps({"type": kind, "id": kind, **more}).decode())
        while (frame := await self.heard()).get("re") != kind:
            pass
        return frame

    async def refusal(self, kind: str, name: str, **more: Any) -> str:
        """What is wrong with a command about a name, without the name."""
        problem = (await self.answer(kind, **more))["error"] | {"trace_id": ""}
        return str(problem).replace(name, "NAME")


async def test_a_socket_to_a_session_of_anothers_is_to_ones_own(world: World) -> None:
    task, url = world.names["task"], world.socket("/v1/sessions/s1/ws")
    commands: list[tuple[str, dict[str, Any]]] = [
        ("cancel", {}),
        ("steer", {"text": "hello"}),
        ("approve", {"step": 1}),
        ("reject", {"step": 1}),
        ("retry", {}),
    ]
    async with connect(url, additional_headers=world.key, proxy=None) as socket:
        talk = Talk(socket)
        for kind, more in commands:
            refusals = {
                await talk.refusal(kind, name, task=name, **more) for name in (task, unlike(task))
            }
            assert len(refusals) == 1
            assert "unknown_task" in str(refusals)
        for cursor in (world.cursors[0], world.cursors[-1]):
            assert "invalid_cursor" in await talk.refusal("follow", cursor, after=cursor)
        assert (await talk.answer("follow"))["type"] == "ok"
        mine = await talk.answer("submit", agent="assistant", input="steps 0")
        while (frame := await talk.heard()).get("kind") != "done" or mine["task"] not in str(frame):
            pass


async def test_nothing_was_changed(world: World) -> None:
    """The last one: after all that, the first tenant has what it had."""
    names = world.names
    for path in (
        "/v1/sessions/s1/history",
        "/v1/schedules/nightly",
        "/v1/collections/handbook/documents/d1",
        f"/v1/conversations/{names['conversation_id']}/items",
        f"/v1/responses/{names['response_id']}/input_items",
        f"/v1/dead/{names['letter']}",
        f"/v1/keys/{names['key']}",
    ):
        answer = await world.acme.get(path)
        assert answer.status_code == 200, answer.text
        assert WORD in answer.text
    state = await made(world.acme, "GET", f"/v1/tasks/{names['task']}?session=s1")
    assert state["state"] == "completed"
