"""The person in the loop: answers the steps that wait because nobody knows what came of them.

The person looks into the file ledger: what stands there has happened, and what does not has not,
once nobody can be at it any more (a frozen executor may still wake up).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from pathlib import Path

import nats.errors
import orjson

from shared.bus.connect import Bus
from shared.contracts.base import decode, encode
from shared.contracts.control import ApproveStep, ControlReply
from shared.contracts.facts import Inferred, Parked
from shared.contracts.log import StoredFact
from shared.errors import MillraceError
from shared.subjects import control_subject
from tests.chaos.answers import result_of
from tests.chaos.records import EFFECTS, Effect, Place, read_lines
from tests.chaos.system import System

_LOOK_AFTER = 2.0
_TRIES = 30


class Person:
    """Reads every fact; answers each parked step once for each attempt."""

    def __init__(self, bus: Bus, system: System) -> None:
        self._bus, self._system = bus, system
        self._ledger: Path = system.data / EFFECTS
        self._asked: set[tuple[Place, int]] = set()
        self._jobs: set[asyncio.Task[None]] = set()
        self._marks: dict[Place, tuple[str, int]] = {}
        self.reruns: Counter[Place] = Counter()

    def on_fact(self, stored: StoredFact) -> None:
        """Whatever happened."""
        fact = stored.fact
        if isinstance(fact, Inferred):
            for n, call in enumerate(fact.tool_calls):
                place = Place(stored.ref, stored.task, fact.step + 1 + n)
                self._marks[place] = _call_of(call.arguments)
        elif isinstance(fact, Parked) and fact.reason == "unknown_outcome":
            place, key = Place(stored.ref, stored.task, fact.step), fact.attempt
            if (place, key) not in self._asked:
                self._asked.add((place, key))
                job = asyncio.create_task(self._answer(place))
                self._jobs.add(job)
                job.add_done_callback(self._jobs.discard)

    async def _answer(self, place: Place) -> None:
        await asyncio.sleep(_LOOK_AFTER)
        while self._system.stopped:
            await asyncio.sleep(0.2)
        await asyncio.sleep(_LOOK_AFTER)
        happened = place in {one.place for one in read_lines(self._ledger, Effect)}
        result = None
        if happened:
            mark, n = self._marks[place]
            result = result_of("effect", place.ref.tenant, place.ref.session, mark, n)
        else:
            self.reruns[place] += 1
        order = ApproveStep(
            task=place.task, step=place.step, by="person", note="looked it up", result=result
        )
        await self._send(place, order)

    async def _send(self, place: Place, order: ApproveStep) -> None:
        for _ in range(_TRIES):
            with contextlib.suppress(MillraceError, nats.errors.Error):
                body = encode(order)
                answer = await self._bus.request(control_subject(place.ref, "approve"), body)
                reply = decode(answer, ControlReply)
                if reply.error is None or reply.error.family == "permanent":
                    return
            await asyncio.sleep(0.5)


def _call_of(arguments: str) -> tuple[str, int]:
    found = orjson.loads(arguments)
    return found["mark"], found["n"]
