"""Readers side by side, and somebody who has to be alone."""

from __future__ import annotations

import asyncio

import pytest

from services.retrieval.adapters.gate import Gate


class Someone:
    """Goes in, stays until told to leave, and notes both."""

    def __init__(self, gate: Gate, *, alone: bool = False) -> None:
        self._way = gate.alone if alone else gate.among_others
        self.leave, self.inside = asyncio.Event(), False
        self.task = asyncio.create_task(self._go())

    async def _go(self) -> None:
        async with self._way():
            self.inside = True
            await self.leave.wait()
        self.inside = False


async def settle() -> None:
    """Let everybody go as far as they can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_readers_are_inside_together() -> None:
    gate = Gate()
    both = [Someone(gate), Someone(gate)]
    await settle()
    assert all(one.inside for one in both)


async def test_who_is_alone_waits_for_those_inside_and_keeps_others_out() -> None:
    gate = Gate()
    first = Someone(gate)
    await settle()
    alone = Someone(gate, alone=True)
    await settle()
    second = Someone(gate)
    await settle()
    assert (first.inside, alone.inside, second.inside) == (True, False, False)
    first.leave.set()
    await settle()
    assert (alone.inside, second.inside) == (True, False)
    alone.leave.set()
    await settle()
    assert (alone.inside, second.inside) == (False, True)


async def test_two_who_want_to_be_alone_are_so_one_after_the_other() -> None:
    gate = Gate()
    one, two = Someone(gate, alone=True), Someone(gate, alone=True)
    await settle()
    reader = Someone(gate)
    await settle()
    assert (one.inside, two.inside) == (True, False)
    one.leave.set()
    await settle()
    assert two.inside != reader.inside
    two.leave.set()
    await settle()
    reader.leave.set()
    await asyncio.gather(one.task, two.task, reader.task)


@pytest.mark.parametrize("alone", [False, True])
async def test_who_is_cancelled_leaves_the_gate_open(alone: bool) -> None:
    gate = Gate()
    holder = Someone(gate)
    await settle()
    gone = Someone(gate, alone=alone)
    await settle()
    gone.task.cancel()
    await settle()
    holder.leave.set()
    last = Someone(gate, alone=not alone)
    await settle()
    assert last.inside
    last.leave.set()
    await last.task
