"""When an endpoint is given work, and when no more."""

from __future__ import annotations

import asyncio

import pytest

from services.inference.adapters.provider.refusals import RATE_LIMITED, UNAVAILABLE
from services.inference.adapters.provider.rotation import IN_A_ROW, Rotation
from services.inference.ports import EndpointRefused, EngineFailed, InvalidRequest
from shared.errors import MillraceError
from shared.telemetry import configure

LOG = configure("test", "critical")
DOWN, REFUSED = EngineFailed("down", UNAVAILABLE), EndpointRefused("look at KEY")


class Looks:
    """What the looks find, one after the other; the last one stays."""

    def __init__(self, *found: MillraceError | None) -> None:
        self.found, self.count = list(found), 0

    async def __call__(self) -> None:
        self.count += 1
        error = self.found.pop(0) if len(self.found) > 1 else self.found[0]
        if error is not None:
            raise error


async def capacity(rotation: Rotation, wanted: int) -> None:
    async with asyncio.timeout(20):
        while rotation.capacity(8) != wanted:  # noqa: ASYNC110 - a breaker gives no event
            await asyncio.sleep(0.001)


async def test_an_endpoint_that_is_well_has_all_its_slots() -> None:
    rotation = Rotation(Looks(None), LOG)
    await rotation.begin()
    rotation.check()
    assert rotation.capacity(8) == 8
    await rotation.close()


async def test_one_refusal_is_enough_and_is_told_at_once() -> None:
    rotation = Rotation(Looks(None), LOG, pause=60)
    rotation.failed(REFUSED)
    assert rotation.capacity(8) == 0
    with pytest.raises(EndpointRefused) as refused:
        rotation.check()
    assert refused.value.detail == "look at KEY"
    await rotation.close()


async def test_it_is_unavailable_a_few_times_in_a_row() -> None:
    rotation = Rotation(Looks(None), LOG, pause=60)
    for _ in range(IN_A_ROW - 1):
        rotation.failed(DOWN)
    rotation.worked()
    for _ in range(IN_A_ROW - 1):
        rotation.failed(DOWN)
    assert rotation.capacity(8) == 8
    rotation.failed(DOWN)
    with pytest.raises(EngineFailed) as down:
        rotation.check()
    assert (down.value.code, down.value.retry_after) == (UNAVAILABLE, 60)
    await rotation.close()


@pytest.mark.parametrize(
    "error", [EngineFailed("slow down", RATE_LIMITED), EngineFailed("cut"), InvalidRequest("no")]
)
async def test_what_is_not_its_state_says_nothing_about_it(error) -> None:
    rotation = Rotation(Looks(None), LOG)
    for _ in range(IN_A_ROW):
        rotation.failed(error)
    assert rotation.capacity(8) == 8
    await rotation.close()


async def test_it_is_looked_at_until_it_is_back_and_then_tried() -> None:
    looks = Looks(REFUSED, DOWN, None)
    rotation = Rotation(looks, LOG, pause=0.001)
    await rotation.begin()
    assert rotation.capacity(8) == 0
    await capacity(rotation, 1)
    assert looks.count == 3
    rotation.check()
    rotation.worked()
    assert rotation.capacity(8) == 8
    await rotation.close()


async def test_a_trial_that_fails_ends_it() -> None:
    rotation = Rotation(Looks(None), LOG, pause=0.001)
    rotation.failed(REFUSED)
    await capacity(rotation, 1)
    rotation.failed(DOWN)
    assert rotation.capacity(8) == 0
    await capacity(rotation, 1)
    await rotation.close()
