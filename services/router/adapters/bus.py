"""Connects the router to the bus: steps, stateless completions, workers coming and going."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import nats.errors
import nats.js.errors
from msgspec.structs import replace
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from services.router.adapters import metering
from services.router.handlers import Router
from shared.bus import topology
from shared.bus.burial import delivery_of, publish_dead
from shared.bus.connect import ApiError, Bus
from shared.bus.consume import Consuming, Delivery, Job, attempt
from shared.bus.direct import asked, placed
from shared.bus.kv import Entry, KeyValue
from shared.bus.log import RunLog
from shared.clock import monotonic
from shared.contracts.base import Message, decode, encode, step_id
from shared.contracts.log import MSG_ID, TASK_HEADER
from shared.contracts.tokens import DirectEvent
from shared.contracts.work import InferStep, RouteStep
from shared.contracts.workers import WorkerState
from shared.errors import Permanent, Transient
from shared.subjects import (
    DIRECT_ROUTE,
    ROUTE,
    ROUTER,
    WORK,
    WORKERS,
    Consumer,
    direct_subject,
    infer_consumer,
    infer_subject,
    lane_of,
    shared_infer_subject,
)
from shared.telemetry import traceparent

_SWEEP = 1.0


def step_headers(route: RouteStep, kind: str) -> dict[str, str]:
    """Headers of work that belongs to a step; the id makes a repetition harmless."""
    step = step_id(route.task, route.step)
    return {
        MSG_ID: f"{route.ref}/{step}/{kind}/{route.attempt}",
        TASK_HEADER: route.task,
        "traceparent": traceparent(route.ref, route.task, str(route.step)),
    }


def routing(bus: Bus, log: RunLog, router: Router) -> Consuming[RouteStep]:
    """The consumer of `work.route`."""

    def read(delivery: Delivery) -> RouteStep:
        return decode(delivery.body, RouteStep)

    async def emit(step: RouteStep, results: Sequence[Message]) -> None:
        for result in results:
            if isinstance(result, InferStep):
                headers = step_headers(step, "infer")
                await bus.publish(_lane_subject(result), encode(result), headers)
                metering.routed(result)
            else:
                await log.append(step.ref, result)

    return Consuming(bus, Job(ROUTER, read, router.route, emit, router.refused), concurrency=256)


def _lane_subject(work: InferStep) -> str:
    """The chosen worker's lane, or the one in which the tenant's calls wait for any worker."""
    model, route = work.target.model, work.route
    if work.target.worker != "any":
        return infer_subject(model, work.target.worker)
    return shared_infer_subject(model, lane_of(route.ref.tenant, route.priority))


class Completions:
    """Places stateless completions: core request/reply, replicas share them."""

    def __init__(self, bus: Bus, router: Router) -> None:
        self._bus, self._router = bus, router
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Subscribe."""
        self._subscription = await self._bus.nc.subscribe(
            DIRECT_ROUTE, queue="router", cb=self._on_request
        )

    async def stop(self) -> None:
        """Unsubscribe; requests already forwarded go on."""
        if self._subscription is not None:
            with contextlib.suppress(nats.errors.Error):
                await self._subscription.unsubscribe()

    async def _on_request(self, message: Msg) -> None:
        if not message.reply:
            return  # nobody would hear the answer
        failure = await attempt(lambda: self._place(message), self._bus.log)
        if failure is not None:
            with contextlib.suppress(Transient):
                await self._bus.send(message.reply, encode(DirectEvent(error=failure)))

    async def _place(self, message: Msg) -> None:
        target = self._router.direct(asked(message.data))
        body = placed(message.data, target)
        await self._bus.send(direct_subject(target.worker), body, message.headers, message.reply)
        metering.forwarded(target)


class WorkerWatch:
    """Follows KV `workers`: reports, goodbyes, silence."""

    def __init__(self, bus: Bus, router: Router) -> None:
        self._bus, self._router = bus, router
        self._kv = KeyValue(bus, WORKERS)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read who is there, then follow."""
        await self._kv.watch(self._changed)
        await self._look()
        self._task = asyncio.create_task(self._sweep_often())

    async def stop(self) -> None:
        """Stop sweeping."""
        if self._task is not None:
            self._task.cancel()

    async def _look(self) -> None:
        for entry in await self._kv.entries():
            await self._changed(entry)

    async def _changed(self, entry: Entry) -> None:
        try:
            if entry.value:
                self._router.report(decode(entry.value, WorkerState))
            else:
                self._router.goodbye(entry.key)
                self._wake.set()
        except Permanent as error:
            self._bus.log.warning("worker.unreadable", worker=entry.key, error=str(error))

    async def _sweep_often(self) -> None:
        swept = monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _SWEEP)
            self._wake.clear()
            late, swept = monotonic() - swept > 2 * _SWEEP, monotonic()
            metering.known(self._router.states(), self._router.models())
            try:
                if late:  # we were stopped ourselves: that nothing was heard says nothing of them
                    await self._look()
                for state in await self._router.sweep():
                    metering.lost(state)
                    self._bus.log.warning("worker.lost", worker=state.worker, model=state.model)
            except (Transient, Permanent) as error:
                self._bus.log.warning("worker.rescue_failed", error=str(error))


class BusRescue:
    """`Rescue`: takes over a lost worker's lane and routes what it finds there anew."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def rescue(self, worker: WorkerState) -> int:
        """See `Rescue.rescue`. A lane has one consumer at a time, so the worker's goes first."""
        lane = infer_consumer(worker.model, worker.worker)
        await topology.delete_consumer(self._bus, lane)
        mine = Consumer(f"rescue-{lane.name}", WORK, lane.filters, memory=True, inactive=5.0)
        try:
            await topology.ensure_consumer(self._bus, mine)
            return await self._move(mine, lane.max_deliver + topology.BURIALS)
        except (ApiError, nats.errors.Error, nats.js.errors.Error) as error:
            raise Transient("bus_unavailable", type(error).__name__) from error
        finally:
            with contextlib.suppress(Transient, ApiError):
                await topology.delete_consumer(self._bus, mine)

    async def _move(self, consumer: Consumer, attempts: int) -> int:
        subscription = await self._bus.nc.jetstream().pull_subscribe_bind(
            consumer.name, stream=WORK
        )
        moved = 0
        try:
            while True:
                for message in await subscription.fetch(64, timeout=0.5):
                    await self._again(message, attempts)
                    moved += 1
        except nats.errors.TimeoutError:
            return moved
        finally:
            await subscription.unsubscribe()

    async def _again(self, message: Msg, attempts: int) -> None:
        """Route it as an attempt that no delivery to the lost worker can have had: its message

        ids are new ones (the old ones would be taken for repetitions and dropped), and viewers
        know its deltas from those of the lost attempt.
        """
        try:
            route = decode(message.data, InferStep).route
        except Permanent as error:
            await publish_dead(self._bus, "rescue", delivery_of(message), error.as_failure())
            await message.term()
            return
        route = replace(route, attempt=route.attempt + attempts)
        headers = step_headers(route, f"rerouted-{message.metadata.sequence.stream}")
        await self._bus.publish(ROUTE, encode(route), headers)
        await message.ack()
