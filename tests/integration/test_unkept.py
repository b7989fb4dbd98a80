"""Sessions that nobody wants to keep are deleted, also where whoever asked has died before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.sessions.adapters import unkept
from shared import clock
from shared.bus import timers
from shared.bus.connect import Bus
from shared.bus.log import last_message
from shared.contracts.base import SessionRef
from shared.contracts.schedules import instant
from shared.errors import Permanent
from shared.subjects import TIMERS, timer_subject
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import Loop, running_loop
from tests.integration.test_client_tools import MINE, parked
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
REF = SessionRef("default", "hidden")
TIMER = timer_subject(REF, timers.UNKEPT, timers.FORGET)
SOON = 0.3


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    async with running_loop(nats_server, tmp_path, bus) as loop:
        await loop.all()
        yield loop


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (timers, unkept):
        monkeypatch.setattr(module, "UNKEPT_FOR", SOON)


async def gone(loop: Loop) -> bool:
    facts = await loop.client.session(REF.session).history()
    return bool(facts) and {one.kind for one in facts} == {"deleted"}


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("words", ["say hush", "call mine"])
async def test_a_session_that_nobody_deletes_is_deleted(loop: Loop, bus: Bus, words: str) -> None:
    """Whether its task has ended, or waits for a client that does not come back."""
    await timers.forget_later(bus, REF, clock.now())
    task = await loop.client.submit("helper", words, session=REF.session, terms=MINE)
    if words == "call mine":
        await parked(task)
    else:
        assert (await task.result(40)).output == "hush"
    await until(lambda: gone(loop), 30)
    assert await last_message(bus, TIMERS, TIMER) is None


@pytest.mark.usefixtures("soon")
async def test_a_session_that_others_begin_in_goes_after_them(loop: Loop, bus: Bus) -> None:
    task = await loop.client.submit("helper", "say hush", session=REF.session)
    await task.result(40)
    fork = await loop.client.fork(REF.session, at=f"{task.id}.0", name="taken")
    await loop.client.task(task.id, "taken").result(40)
    await timers.forget_later(bus, REF, clock.now())
    before = await last_message(bus, TIMERS, TIMER)

    async def again() -> bool:
        found = await last_message(bus, TIMERS, TIMER)
        return found is not None and before is not None and found.headers != before.headers

    await until(again)
    assert not await gone(loop)
    await fork.delete()
    await until(lambda: gone(loop), 30)


async def test_a_session_that_is_used_is_looked_at_later(loop: Loop, bus: Bus) -> None:
    await (await loop.client.submit("helper", "say hush", session=REF.session)).result(40)
    long_ago = clock.now() - timers.UNKEPT_FOR
    await timers.forget_later(bus, REF, long_ago)

    async def moved() -> bool:
        found = await last_message(bus, TIMERS, TIMER)
        due = (found.headers or {}).get("Nats-Schedule", "") if found else ""
        return due > f"@at {instant(clock.now() + timers.UNKEPT_FOR / 2)}"

    await until(moved)
    assert not await gone(loop)


@pytest.mark.parametrize("used", [False, True])
async def test_a_session_that_is_not_there_is_nothing_to_delete(
    loop: Loop, bus: Bus, used: bool
) -> None:
    """Whoever announced it died before its first word, or has deleted it already."""
    if used:
        task = await loop.client.submit("helper", "say hush", session=REF.session)
        await task.result(40)
        await loop.client.session(REF.session).delete()
    await timers.forget_later(bus, REF, clock.now() - timers.UNKEPT_FOR)

    async def fired() -> bool:
        return await last_message(bus, TIMERS, TIMER) is None

    await until(fired)
    if used:
        assert await gone(loop)
    else:
        with pytest.raises(Permanent, match="unknown_session"):
            await loop.client.session(REF.session).delete()
