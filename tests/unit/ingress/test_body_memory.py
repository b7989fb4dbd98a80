"""Room for bodies: what they hold together, and what small ones have for themselves."""

from __future__ import annotations

import pytest
from starlette.types import Message, Receive, Scope, Send

from services.ingress.adapters.http.middleware import Bodies, BodyLimit
from services.ingress.core.access.memory import SMALL, Room
from services.ingress.settings import Settings
from shared.errors import Permanent, Transient

MIB = 1 << 20


def test_large_bodies_leave_room_for_small_ones() -> None:
    room = Room(8 * MIB)
    large = room.hold(0)
    large.grow(7 * MIB)
    another = room.hold(0)
    with pytest.raises(Transient, match="busy"):
        another.grow(SMALL + 1)
    small = room.hold(1000)
    small.grow(1000)
    assert room.taken == 7 * MIB + 1000
    for held in (large, small, another):
        held.free()
        held.free()
    assert room.taken == 0


def test_a_body_that_grows_moves_to_the_large_ones() -> None:
    room = Room(8 * MIB)
    bodies = [room.hold(0) for _ in range(100)]
    for body in bodies:
        body.grow(SMALL)
        body.grow(1)
        body.free()
    held = room.hold(0)
    held.grow(SMALL - 1)
    held.grow(MIB)
    assert room.taken == SMALL - 1 + MIB


def test_small_ones_are_bounded_too() -> None:
    room = Room(8 * MIB)
    for _ in range(16):
        room.hold(SMALL).grow(SMALL)
    with pytest.raises(Transient):
        room.hold(SMALL).grow(SMALL)


def test_who_only_promises_a_large_body_keeps_nobody_out() -> None:
    room = Room(8 * MIB)
    for _ in range(10):
        room.hold(7 * MIB)
    real = room.hold(7 * MIB)
    real.grow(MIB)
    with pytest.raises(Transient):
        room.hold(7 * MIB)


def test_the_largest_body_must_fit() -> None:
    Settings(body_limit=16 * MIB, http_body_memory=32 * MIB).check_room()
    with pytest.raises(Permanent, match="invalid_settings"):
        Settings(body_limit=16 * MIB, http_body_memory=31 * MIB).check_room()


class Call:
    """One request to an application that reads all of its body, and answers when it may."""

    def __init__(self, app: BodyLimit, *parts: bytes, declared: int = 0) -> None:
        self._app, self._parts = app, list(parts)
        self._headers = [(b"content-length", str(declared).encode())] if declared else []
        self.sent: list[Message] = []

    async def run(self) -> int:
        scope = {"type": "http", "path": "/v1/tasks", "headers": self._headers, "method": "POST"}
        await self._app(scope, self._receive, self._send)
        return int(self.sent[0]["status"])

    async def _receive(self) -> Message:
        body = self._parts.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(self._parts)}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


async def test_the_room_is_free_again_when_the_answer_begins() -> None:
    taken: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            continue
        taken.append(limit._room.taken)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        taken.append(limit._room.taken)
        await send({"type": "http.response.body", "body": b""})

    limit = BodyLimit(app, Bodies(limit=2 * MIB, memory=4 * MIB))
    assert await Call(limit, b"x" * MIB, b"x" * 10).run() == 200
    assert taken == [MIB + 10, 0]


async def test_a_body_without_room_is_refused_before_it_is_read() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("it was let in")

    limit = BodyLimit(app, Bodies(limit=2 * MIB, memory=4 * MIB))
    held = limit._room.hold(0)
    held.grow(2 * MIB)
    call = Call(limit, declared=2 * MIB)
    assert await call.run() == 503
    headers = dict(call.sent[0]["headers"])
    assert (headers[b"retry-after"], headers[b"connection"]) == (b"1", b"close")
    assert b'"code":"busy"' in call.sent[1]["body"]
