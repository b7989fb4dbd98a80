"""One session over one socket: submit, stream, approve, steer, cancel, retry; resume by cursor."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close

from tests.e2e.clients.two_ingresses import Face, Replica, two_ingresses
from tests.integration.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]
Frame = dict[str, Any]
DEAF: dict[str, Any] = {"max_queue": 1, "max_size": None, "ping_interval": None}
LONG = "say " + "word by word " * 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def face(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Face]:
    async with two_ingresses(tmp_path_factory.mktemp("face")) as running:
        yield running


class Client:
    """A client of the protocol; keeps the events and answers that come."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.events: list[Frame] = []
        self._answers: dict[object, Frame] = {}
        self._next = 0

    async def read(self) -> Frame:
        """The next frame."""
        frame: Frame = orjson.loads(await asyncio.wait_for(self.connection.recv(), 20))
        if frame["type"] == "event":
            self.events.append(frame)
        else:
            self._answers[frame["re"]] = frame
        return frame

    async def ask(self, kind: str, **fields: object) -> Frame:
        """A command and its answer; events may come before it."""
        self._next += 1
        await self.connection.send(
            orjson.dumps({"type": kind, "id": self._next, **fields}).decode()
        )
        while self._next not in self._answers:
            await self.read()
        return self._answers.pop(self._next)

    async def event(self, kind: str, task: str = "") -> Frame:
        """The first event of a kind (of a task); read on until it is there."""
        while True:
            for one in self.events:
                if one["kind"] == kind and task in ("", one["data"]["task"]):
                    return one
            await self.read()

    async def closed(self) -> Close:
        """Read on to the end; how the server put it."""
        with suppress(ConnectionClosed):
            while True:
                await self.read()
        found = self.connection.protocol.close_rcvd
        assert found is not None
        return found

    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.events if event["kind"] != "delta"]


@asynccontextmanager
async def at(
    replica: Replica, session: str, name: str = "127.0.0.1", **options: Any
) -> AsyncIterator[Client]:
    url = f"ws://{name}:{replica.port}/v1/sessions/{session}/ws"
    if "sock" not in options:
        options |= {"host": "127.0.0.1", "port": replica.port}
    async with connect(url, proxy=None, **options) as connection:
        yield Client(connection)


async def test_submit_and_follow(face: Face) -> None:
    async with at(face.first, "talk") as client:
        assert (await client.ask("follow"))["type"] == "ok"
        submitted = await client.ask("submit", agent="plain", input="say hello")
        assert submitted["session"] == "talk"
        done = await client.event("done", submitted["task"])
        assert done["data"]["output"] == "hello"
        assert client.kinds() == ["task", "accepted", "inferred", "done"]
        text = "".join(one["data"]["text"] for one in client.events if one["kind"] == "delta")
        assert text == "hello"
    over_http = await face.http.get(f"{face.second.url}{submitted['events']}?session=talk")
    ids = [line[4:] for line in over_http.text.splitlines() if line.startswith("id: ")]
    assert [event["id"] for event in client.events] == ids


async def test_it_resumes_after_any_event_at_the_other_replica(face: Face) -> None:
    async with at(face.first, "moving") as client:
        await client.ask("follow")
        await client.ask("submit", agent="plain", input="say one two three")
        await client.event("done")
    for place in range(len(client.events) - 1):
        async with at(face.second, "moving") as other:
            await other.ask("follow", after=client.events[place]["id"])
            await other.event("done")
            assert other.events == client.events[place + 1 :]


async def test_a_call_is_approved_and_another_rejected(face: Face) -> None:
    async with at(face.first, "careful") as client:
        await client.ask("follow")
        task = (await client.ask("submit", agent="careful", input="call calculator"))["task"]
        parked = await client.event("parked", task)
        approved = await client.ask("approve", task=task, result="42", by="kim")
        assert approved["sequence"] > 0
        assert (await client.event("done", task))["data"]["output"] == "got 42"
        again = await client.ask("approve", task=task, step=parked["data"]["step"])
        assert (again["type"], again["error"]["code"]) == ("error", "task_ended")
        task = (await client.ask("submit", agent="careful", input="call calculator"))["task"]
        await client.event("parked", task)
        assert (await client.ask("reject", task=task, note="no"))["type"] == "ok"
        assert (await client.event("done", task))["data"]["status"] == "completed"
        assert client.kinds().count("rejected") == 1


async def test_a_running_task_is_steered_and_cancelled_and_retried(face: Face) -> None:
    async with at(face.second, "busy") as client:
        await client.ask("follow")
        task = (await client.ask("submit", agent="plain", input=LONG))["task"]
        await client.event("delta", task)
        keyed = {"task": task, "text": "say enough", "idempotency_key": "k1"}
        first, second = await client.ask("steer", **keyed), await client.ask("steer", **keyed)
        assert first["sequence"] == second["sequence"]
        other = await client.ask("steer", **keyed | {"text": "say more"})
        assert other["error"]["code"] == "idempotency_conflict"
        assert (await client.ask("cancel", task=task, by="kim"))["type"] == "ok"
        assert (await client.event("done", task))["data"]["status"] == "cancelled"
        again = await client.ask("retry", task=task, idempotency_key="k2")
        assert again["retry_of"] == task
        same = await client.ask("retry", task=task, idempotency_key="k2", by="kim")
        assert (same["task"], same["retry_of"]) == (again["task"], task)
        assert (await client.event("done", again["task"]))["data"]["status"] == "completed"
        refused = await client.ask("retry", task=again["task"])
        assert (refused["type"], refused["error"]["code"]) == ("error", "not_failed")
        unknown = await client.ask("cancel", task="nobody")
        assert unknown["error"]["status"] == 404


async def test_unfollow_and_follow_again(face: Face) -> None:
    async with at(face.first, "pause") as client:
        await client.ask("follow")
        await client.ask("submit", agent="plain", input="say a")
        await client.event("done")
        last, seen = client.events[-1]["id"], len(client.events)
        await client.ask("unfollow")
        task = (await client.ask("submit", agent="plain", input="say b"))["task"]
        wait = f"{face.first.url}/v1/tasks/{task}/events?session=pause"
        assert "event: done" in (await face.http.get(wait)).text
        assert len(client.events) == seen
        await client.ask("follow", after=last)
        await client.event("done", task)
        assert {event["data"]["task"] for event in client.events[seen:]} == {task}


@pytest.mark.parametrize(
    ("sent", "code", "field"),
    [
        ("no json", "invalid_json", None),
        (b"\x00\x01", "invalid_request", None),
        ("[1]", "invalid_request", None),
        ('{"type": "dance", "id": 100}', "unknown_type", "type"),
        ('{"type": "submit", "id": 100, "agent": "plain"}', "invalid_request", "input"),
        ('{"type": "submit", "agent": "nobody", "input": "x"}', "unknown_agent", "agent"),
        ('{"type": "cancel", "id": 100}', "invalid_request", "task"),
        ('{"type": "follow", "after": "x"}', "invalid_cursor", "after"),
        (f'{{"type": "submit", "input": {"[" * 99}{"]" * 99}}}', "invalid_request", "input"),
    ],
)
async def test_garbage_is_answered_and_the_socket_stays_open(
    face: Face, sent: str | bytes, code: str, field: str | None
) -> None:
    async with at(face.first, "garbage") as client:
        await client.connection.send(sent)
        error = (await client.read())["error"]
        assert (error["code"], error.get("field")) == (code, field)
        assert error["trace_id"]
        assert (await client.ask("unfollow"))["type"] == "ok"


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"origin": "https://evil.example"}, 403, "foreign_origin"),
        ({"origin": "null"}, 403, "foreign_origin"),
        ({"name": "rebound.example"}, 421, "foreign_host"),
        ({"additional_headers": {"X-Millrace-Tenant": "_all"}}, 422, "invalid_name"),
    ],
)
async def test_a_web_page_cannot_open_it(
    face: Face, options: dict[str, Any], status: int, code: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with at(face.first, "s", **options):
            pass
    response = refused.value.response
    assert response.status_code == status
    assert orjson.loads(response.body)["code"] == code
    assert response.headers["X-Trace-Id"]


async def test_a_page_of_this_machine_may_and_is_traced(face: Face) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    async with at(
        face.first, "s", origin="http://localhost:5173", additional_headers=headers
    ) as client:
        response = client.connection.response
        assert response is not None
        assert response.headers["X-Trace-Id"] == trace


async def test_a_frame_that_is_too_large_ends_the_socket(face: Face) -> None:
    replica = await face.another(body_limit="2048")
    async with at(replica, "large") as client:
        await client.connection.send("x" * 3000)
        assert (await client.closed()).code == 1009
    await stop(replica)


async def test_a_shutdown_says_where_to_go_on(face: Face) -> None:
    replica = await face.another()
    async with at(replica, "moved") as client:
        await client.ask("follow")
        task = (await client.ask("submit", agent="plain", input=LONG))["task"]
        await client.event("delta", task)
        replica.process.terminate()
        close = await client.closed()
    await stop(replica)
    assert (close.code, close.reason) == (1012, client.events[-1]["id"])
    async with at(face.second, "moved") as other:
        await other.ask("follow", after=close.reason)
        await other.event("done", task)
    async with at(face.first, "moved") as whole:
        await whole.ask("follow")
        await whole.event("done", task)
    assert client.events + other.events == whole.events


async def stop(replica: Replica) -> None:
    replica.process.terminate()
    assert await asyncio.to_thread(replica.process.wait, 10) == 0


async def test_a_client_that_does_not_read_is_told_where_to_go_on(face: Face) -> None:
    replica = await face.another(heartbeat="0.3", viewer_patience="0.5")
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", replica.port))
    async with at(replica, "loud", **DEAF, sock=deaf) as client:
        await client.ask("follow")
        for _ in range(2):  # more than the buffers of both sides hold, and than the model reads
            await face.submit("loud", "x" * 4_000_000)

        async def gone() -> bool:
            text = (await face.http.get(f"{replica.url}/metrics")).text
            return 'streams_open{kind="socket"} 0.0' in text

        await until(gone)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)  # it reads at last, and fast
        close = await client.closed()
    assert (close.code, close.reason) == (1013, client.events[-1]["id"])
    await stop(replica)
