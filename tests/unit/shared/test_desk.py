"""Turns: a tenant that asks without end waits for itself alone."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from shared.bus.desk import Turns
from shared.errors import Transient


async def test_one_waits_for_itself_and_nobody_else_does() -> None:
    turns = Turns(at_once=8, each=2, most=4)
    async with AsyncExitStack() as held:
        for _ in range(2):
            await held.enter_async_context(turns.turn("acme"))
        third = asyncio.create_task(_had(turns, "acme"))
        await _had(turns, "other")
        assert not third.done()
    await third


async def test_a_line_that_is_too_long_is_said_so_at_once() -> None:
    turns = Turns(at_once=8, each=1, most=2)
    async with turns.turn("acme"):
        waiting = asyncio.create_task(_had(turns, "acme"))
        await asyncio.sleep(0)
        with pytest.raises(Transient, match="busy") as refused:
            await _had(turns, "acme")
        assert refused.value.retry_after
        await _had(turns, "other")
    await waiting
    await _had(turns, "acme")


async def test_all_together_are_bounded_too() -> None:
    turns = Turns(at_once=1, each=1, most=2)
    async with turns.turn("acme"):
        other = asyncio.create_task(_had(turns, "other"))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not other.done()
    await other


async def test_who_gives_up_leaves_the_line() -> None:
    turns = Turns(at_once=1, each=1, most=1)
    with pytest.raises(ValueError, match="x"):
        async with turns.turn("acme"):
            raise ValueError("x")
    async with turns.turn("acme"):
        pass


async def _had(turns: Turns, tenant: str) -> None:
    async with turns.turn(tenant):
        return
