"""Server-sent events as an EventSource reads them, through disconnects and at any replica."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator

import httpx
import httpx_sse
import pytest
import pytest_asyncio

from tests.e2e.clients.two_ingresses import Face, Replica, two_ingresses
from tests.integration.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]
TEXT = "".join(f"The {n}th word of a long answer. " for n in range(12)).strip()
Seen = tuple[str, str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def face(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Face]:
    async with two_ingresses(tmp_path_factory.mktemp("face")) as running:
        yield running


async def read(
    face: Face, url: str, seen: list[Seen], *, most: int = 10_000, last: str = "done"
) -> bool:
    """Read on after the last id, as an EventSource does; whether `last` has come."""
    headers = {"Last-Event-ID": seen[-1][0]} if seen else {}
    async with httpx_sse.aconnect_sse(face.http, "GET", url, headers=headers) as source:
        source.response.raise_for_status()
        async for event in source.aiter_sse():
            seen.append((event.id, event.event, event.data))
            if event.event == last:
                return True
            most -= 1
            if not most:
                return False
    return False


def spoken(seen: list[Seen]) -> int:
    return sum(kind == "delta" for _, kind, _ in seen)


async def test_twenty_disconnects_at_two_replicas_change_nothing(face: Face) -> None:
    chosen = random.Random(7)  # noqa: S311  # no secret
    task = await face.submit("long", f"say {TEXT}")
    path = f"/v1/tasks/{task}/events?session=long"
    whole: list[Seen] = []
    steady = asyncio.create_task(read(face, face.first.url + path, whole))
    broken: list[Seen] = []
    cuts = 0
    while True:
        replica = (face.second, face.first)[cuts % 2]
        most = chosen.randint(1, 3) if cuts < 20 else 10_000
        if await read(face, replica.url + path, broken, most=most):
            break
        cuts += 1
    assert await steady
    assert cuts >= 20
    assert broken == whole  # ids, kinds and data, byte for byte
    assert spoken(whole) > 20
    after: list[Seen] = []
    assert await read(face, face.second.url + path, after)
    assert after == whole  # and so it stays, cut again from the log


async def test_any_id_resumes_at_the_other_replica(face: Face) -> None:
    task = await face.submit("any", "say one two three four five six seven")
    path = f"/v1/tasks/{task}/events?session=any"
    whole: list[Seen] = []
    assert await read(face, face.first.url + path, whole)
    for at in range(len(whole) - 1):
        rest = whole[: at + 1]
        assert await read(face, face.second.url + path, rest)
        assert rest == whole
    end = await face.http.get(face.second.url + path, headers={"Last-Event-ID": whole[-1][0]})
    assert end.status_code == 204


async def test_a_session_is_followed_from_before_its_first_task(face: Face) -> None:
    url = f"{face.second.url}/v1/sessions/early/events"
    seen: list[Seen] = []
    viewer = asyncio.create_task(read(face, url, seen))
    await asyncio.sleep(0.1)
    first = await face.submit("early", "say one")
    assert await viewer
    second = await face.submit("early", "say two")
    assert await read(face, url, seen)
    kinds = [kind for _, kind, _ in seen if kind != "delta"]
    assert kinds == ["task", "accepted", "inferred", "done"] * 2
    assert [first in seen[0][2], second in seen[-1][2]] == [True, True]
    assert len({cursor for cursor, _, _ in seen}) == len(seen)


async def test_a_cursor_of_another_session_is_an_error_before_the_stream(face: Face) -> None:
    seen: list[Seen] = []
    task = await face.submit("mine", "say x")
    await read(face, f"{face.first.url}/v1/tasks/{task}/events?session=mine", seen)
    other = await face.submit("other", "say y")
    for path in (f"/v1/tasks/{other}/events?session=other", "/v1/sessions/other/events"):
        for cursor in (seen[-1][0], "999999999"):
            answer = await face.http.get(face.second.url + path, headers={"Last-Event-ID": cursor})
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor")


async def test_the_first_event_says_how_soon_to_come_back(face: Face) -> None:
    task = await face.submit("retry", "say x")
    body = (await face.http.get(f"{face.first.url}/v1/tasks/{task}/events?session=retry")).text
    assert body.startswith("retry: ")
    assert body.count("retry: ") == 1


async def test_a_shutdown_ends_a_stream_where_another_replica_goes_on(face: Face) -> None:
    replica = await face.another()
    task = await face.submit("moved", f"say {TEXT}")
    path = f"/v1/tasks/{task}/events?session=moved"
    seen: list[Seen] = []
    viewer = asyncio.create_task(read(face, replica.url + path, seen))
    await until(lambda: spoken(seen) > 3)
    replica.process.terminate()
    assert await viewer is False  # in order: a broken connection would raise
    assert await asyncio.to_thread(replica.process.wait, 10) == 0
    assert await read(face, face.second.url + path, seen)
    whole: list[Seen] = []
    assert await read(face, face.first.url + path, whole)
    assert seen == whole


def asks(replica: Replica, session: str) -> socket.socket:
    """A viewer that never reads, behind the smallest of windows."""
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", replica.port))
    deaf.sendall(f"GET /v1/sessions/{session}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return deaf


async def open_streams(http: httpx.AsyncClient, replica: Replica, kind: str) -> float:
    """What the metrics say."""
    text = (await http.get(f"{replica.url}/metrics")).text
    (line,) = [one for one in text.splitlines() if f'streams_open{{kind="{kind}"}}' in one]
    return float(line.rpartition(" ")[2])


async def test_a_viewer_that_does_not_read_is_cut_off_and_slows_nobody(face: Face) -> None:
    replica = await face.another(heartbeat="0.3", viewer_patience="0.5")
    deaf = asks(replica, "loud")
    seen: list[Seen] = []
    reader = asyncio.create_task(
        read(face, f"{replica.url}/v1/sessions/loud/events", seen, last="end")
    )
    await until(lambda: open_is(face, replica, 2))
    for _ in range(2):  # more than the buffers of both sides hold, and than the model reads
        await face.submit("loud", "x" * 4_000_000)
    await until(lambda: open_is(face, replica, 1))
    await until(lambda: sum(kind == "done" for _, kind, _ in seen) == 2)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    deaf.close()
    replica.process.terminate()
    assert await asyncio.to_thread(replica.process.wait, 10) == 0


async def open_is(face: Face, replica: Replica, count: int) -> bool:
    return await open_streams(face.http, replica, "session") == count
