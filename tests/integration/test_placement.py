"""A completion reaches a worker that can do what it asks for, however large it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from msgspec.structs import replace
from nats.aio.msg import Msg

from services.router.adapters.bus import BusRescue, Completions
from services.router.handlers import Router
from shared import clock
from shared.bus import claims
from shared.bus.connect import Bus
from shared.bus.direct import complete, received
from shared.contracts.base import encode
from shared.contracts.demands import Demands, ResponseFormat
from shared.contracts.tokens import DirectEvent
from shared.contracts.work import ChatMessage, DirectRequest
from shared.contracts.workers import WorkerState
from shared.errors import Failure
from shared.models import ModelsFile, OpenVinoModel
from shared.subjects import direct_subject

pytestmark = pytest.mark.integration
MODELS = ModelsFile(
    models={"small": OpenVinoModel(path="s"), "large": OpenVinoModel(path="l")},
    routes={"default": ("small", "large")},
)
ASK = DirectRequest(
    id="c1", tenant="acme", model="default", messages=(ChatMessage(role="user", content="hi"),)
)
JSON = Demands(response_format=ResponseFormat(type="json_object"))


@pytest.fixture
async def _router(bus: Bus) -> AsyncIterator[None]:
    """A router, and two workers that answer with their names, or with what they got."""
    router = Router(MODELS, BusRescue(bus), clock.now, clock.monotonic)
    for worker, abilities in (("small", ("logprobs",)), ("large", ("constraint", "logprobs"))):
        router.report(
            WorkerState(worker=worker, model=worker, engine="x", slots=8, abilities=abilities)
        )

        async def answer(message: Msg, name: str = worker) -> None:
            await received(bus, message)
            failure = Failure(code=name)
            await bus.send(message.reply, encode(DirectEvent(error=failure)))

        await bus.nc.subscribe(direct_subject(worker), cb=answer)
    completions = Completions(bus, router)
    await completions.start()
    yield
    await completions.stop()


async def reached(bus: Bus, request: DirectRequest) -> str:
    async with aclosing(complete(bus, request)) as events:
        async for event in events:
            assert event.error is not None
            return event.error.code
    raise AssertionError


@pytest.mark.usefixtures("_router")
async def test_a_demand_goes_to_a_worker_that_can_meet_it(bus: Bus) -> None:
    assert await reached(bus, ASK) == "small"
    assert await reached(bus, replace(ASK, demands=Demands(logprobs=2))) == "small"
    assert await reached(bus, replace(ASK, demands=JSON)) == "large"
    assert await reached(bus, replace(ASK, demands=JSON, count_only=True)) == "small"
    biased = replace(ASK.sampling, logit_bias={"5": 1.0})
    assert await reached(bus, replace(ASK, sampling=biased)) == "unsupported_demand"


@pytest.mark.usefixtures("_router")
async def test_what_is_too_large_for_a_message_still_says_what_it_needs(bus: Bus) -> None:
    long = ChatMessage(role="user", content="x" * claims.limit_of(bus))
    assert await reached(bus, replace(ASK, demands=JSON, messages=(long,))) == "large"
