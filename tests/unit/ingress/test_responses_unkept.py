"""What is not to be stored is announced before its first word, and deleted behind its last."""

import asyncio

import pytest

from shared.contracts.facts import Done
from shared.errors import Transient

URL = "/v1/responses"
ASK = {"model": "default", "input": "hi"}
PLAN = [Done(task="", status="completed", output="391")]


async def test_what_is_not_stored_is_announced_and_deleted(http, system, house):
    system.plan = PLAN
    answer = await http.post(URL, json=ASK | {"store": False})
    ref = system.orders[0].ref
    assert (answer.status_code, house.unkept) == (200, [ref])


@pytest.mark.parametrize("store", [True, None])
async def test_what_is_stored_is_not(http, system, house, store):
    system.plan = PLAN
    answer = await http.post(URL, json=ASK | {"store": store})
    assert (answer.status_code, house.unkept) == (200, [])


async def test_nothing_is_submitted_that_could_not_be_announced(http, system, house, monkeypatch):
    async def away(_ref):
        await asyncio.sleep(0)
        raise Transient("bus_unavailable", "away")

    monkeypatch.setattr(type(house), "forget_later", staticmethod(away))
    answer = await http.post(URL, json=ASK | {"store": False})
    assert (answer.status_code, system.orders) == (503, [])
