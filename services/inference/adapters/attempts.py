"""Numbers the executions of a model call: no two share a number, or viewers would mix their words.

A delivery counts as the next attempt. But a lane that is made anew, or a broker that lost what it
held in memory, delivers for the first time what was begun before; then what was spoken tells.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared import clock
from shared.bus.connect import ApiError, Bus
from shared.bus.consume import Delivery, doubtful
from shared.bus.log import direct_get, parse_time
from shared.contracts.base import decode
from shared.contracts.tokens import TokenDelta
from shared.contracts.work import InferStep, RouteStep
from shared.errors import Permanent, Transient
from shared.subjects import TOKENS, Consumer, tokens_subject


@dataclass(frozen=True, slots=True)
class Execution:
    """The number of an execution, and whether the step may have an answer already."""

    attempt: int
    doubtful: bool


class Attempts:
    """The numbers for one lane."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._handed = 0

    async def learn(self, row: Consumer) -> None:
        """What an earlier run of this worker was given, before its consumer is removed."""
        try:
            info = await self._bus.api(f"CONSUMER.INFO.{row.stream}.{row.name}")
        except ApiError:
            return
        self._handed = int(info["delivered"]["stream_seq"])

    async def of(self, work: InferStep, delivery: Delivery) -> Execution:
        """The number of this delivery's execution."""
        route = work.route
        usual = route.attempt + delivery.deliveries - 1
        again = delivery.sequence <= self._handed
        if not again and not doubtful(delivery, route.asked, clock.now()):
            return Execution(usual, doubtful=False)
        spoken = await self._spoken(route)
        if spoken is None:
            return Execution(usual + await self._lost(route, delivery), doubtful=True)
        return Execution(max(usual, spoken + 1), doubtful=True)

    async def _spoken(self, route: RouteStep) -> int | None:
        """The last attempt of this step of which a delta is there."""
        query = {"multi_last": [tokens_subject(route.ref, route.task)]}
        try:
            messages, _ = await direct_get(self._bus, f"$JS.API.DIRECT.GET.{TOKENS}", query)
            delta = decode(messages[-1].data, TokenDelta) if messages else None
        except (Transient, Permanent):
            return None
        if delta is None or (delta.task, delta.step) != (route.task, route.step):
            return None
        return delta.attempt

    async def _lost(self, route: RouteStep, delivery: Delivery) -> int:
        """Seconds since the step was decided, where deltas of then are lost; else nothing.

        Whatever began before this delivery was handed out has a lower number.
        """
        try:
            info = await self._bus.api(f"STREAM.INFO.{TOKENS}", None)
        except (ApiError, Transient):
            return 0
        if not route.asked or parse_time(info["created"]) <= route.asked:
            return 0
        return 1 + int(delivery.time - route.asked)
