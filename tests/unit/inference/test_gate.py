"""Requests before a worker that is full: they wait, are called, dropped or sent elsewhere."""

from __future__ import annotations

import asyncio

import pytest

from services.inference.core.answering import Owner
from services.inference.handlers.gate import Gate, Turn


class Room:
    """A gate, and requests that hold their slot until they are told to go."""

    def __init__(self, slots: int = 1) -> None:
        self.gate = Gate(slots)
        self.turns: dict[str, Turn] = {}
        self.go: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, *, movable: bool = False) -> None:
        self.go[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(name, movable))
        await self.settle()

    async def _hold(self, name: str, movable: bool) -> None:
        async with self.gate.turn(Owner(name, name), "interactive", movable=movable) as turn:
            self.turns[name] = turn
            if turn == "yours":
                await self.go[name].wait()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


async def test_the_next_one_is_called_when_a_slot_is_free() -> None:
    room = Room()
    await room.come("a")
    await room.come("b")
    assert (room.turns, room.gate.waiting) == ({"a": "yours"}, 1)
    room.go["a"].set()
    await room.settle()
    assert (room.turns["b"], room.gate.waiting) == ("yours", 0)
    room.go["b"].set()
    await asyncio.gather(*room.tasks.values())


async def test_an_abort_ends_the_waiting_and_not_the_running() -> None:
    room = Room()
    await room.come("a")
    await room.come("b")
    room.gate.drop("a")
    room.gate.drop("b")
    room.gate.drop("nobody")
    await room.settle()
    assert room.turns == {"a": "yours", "b": "aborted"}
    assert room.tasks["b"].done()
    assert not room.tasks["a"].done()
    room.go["a"].set()
    await room.tasks["a"]


async def test_who_can_be_served_elsewhere_is_let_go() -> None:
    room = Room()
    await room.come("a", movable=True)
    await room.come("b", movable=True)
    await room.come("c")
    room.gate.dismiss()
    await room.settle()
    assert room.turns == {"a": "yours", "b": "elsewhere"}
    room.go["a"].set()
    await room.settle()
    assert room.turns["c"] == "yours"
    room.go["c"].set()
    await asyncio.gather(*room.tasks.values())


@pytest.mark.parametrize("who", ["a", "b"])
async def test_a_cancelled_request_gives_back_what_it_had(who: str) -> None:
    room = Room()
    await room.come("a")
    await room.come("b")
    room.tasks[who].cancel()
    await room.settle()
    assert room.gate.waiting == 0
    other = "b" if who == "a" else "a"
    assert room.turns[other] == "yours"
    room.go[other].set()
    await room.tasks[other]
    await room.come("c")
    assert room.turns["c"] == "yours"
    room.go["c"].set()
    await room.tasks["c"]


async def test_one_that_is_called_and_cancelled_at_once_gives_the_slot_on() -> None:
    room = Room()
    for name in ("a", "b", "c"):
        await room.come(name)
    room.go["a"].set()
    await room.tasks["a"]
    room.tasks["b"].cancel()
    await room.settle()
    assert room.turns["c"] == "yours"
    room.go["c"].set()
    await asyncio.gather(*room.tasks.values(), return_exceptions=True)
