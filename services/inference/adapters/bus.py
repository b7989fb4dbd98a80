"""The bus side of a worker: its lanes of work, completions, aborts, deltas, its own report."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nats.errors
from msgspec.structs import replace
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from services.inference.adapters import metering
from services.inference.adapters.attempts import Attempts
from services.inference.adapters.books import Books
from services.inference.adapters.spans import completion_span
from services.inference.core.answering import Told
from services.inference.handlers import Inference
from shared.bus import topology
from shared.bus.batches import Entry
from shared.bus.connect import Bus
from shared.bus.consume import GRACE, Consuming, Delivery, Job, attempt, begun
from shared.bus.direct import BEAT, alive, answered, received
from shared.bus.kv import KeyValue
from shared.bus.log import RunLog
from shared.clock import now
from shared.contracts.base import Message, SessionRef, as_token, decode, encode
from shared.contracts.facts import Completed
from shared.contracts.log import ATTEMPT_HEADER, TASK_HEADER
from shared.contracts.tokens import DirectEvent, TokenDelta
from shared.contracts.work import DirectRequest, InferStep, RouteStep
from shared.contracts.workers import WorkerState
from shared.errors import Failure, Transient
from shared.subjects import (
    DIRECT_SESSION,
    ENDED,
    LANES,
    WORKERS,
    direct_subject,
    infer_consumer,
    shared_infer_consumer,
    tokens_subject,
)
from shared.telemetry import serving, traceparent
from shared.trace import TRACEPARENT, TraceContext, context_of

if TYPE_CHECKING:
    from shared.otlp.sdk import Spans

_REPORT_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class Attempted:
    """A step and its delivery."""

    work: InferStep
    delivery: Delivery


class Lane:
    """One queue of model calls: the worker's own (`name` None), or one shared by its model's.

    Of a shared one a single call is taken ahead: what waits here could be begun elsewhere. Of its
    own, which nobody else reads, as many as there are slots.
    """

    def __init__(
        self,
        bus: Bus,
        inference: Inference,
        state: WorkerState,
        name: str | None = None,
    ) -> None:
        self._bus, self._log, self._inference = bus, RunLog(bus), inference
        self._own, self._model = name is None, state.model
        if name is None:
            self._row = infer_consumer(state.model, state.worker)
        else:
            self._row = shared_infer_consumer(state.model, name)
        self._attempts = Attempts(bus)
        self.ended = asyncio.Event()
        job = Job(self._row, _read, self._handle, self._emit, self._give_up)
        self._consuming = Consuming(bus, job, concurrency=state.slots if self._own else 1)

    async def start(self) -> None:
        """Begin. What an earlier run of this worker had in hand is delivered again at once."""
        if self._own:
            await self._attempts.learn(self._row)
            await topology.delete_consumer(self._bus, self._row)
        await self._consuming.start()

    async def stop(self) -> None:
        """Finish what runs, within a bound; the rest goes back to the queue."""
        self._inference.gate.dismiss()
        try:
            await self._consuming.stop()
        finally:
            self.ended.set()

    async def _handle(self, job: Attempted) -> Sequence[Message]:
        run = await self._attempts.of(job.work, job.delivery)
        return await self._inference.infer(
            job.work, run.attempt, doubtful=run.doubtful, begun=begun
        )

    async def _emit(self, job: Attempted, results: Sequence[Message]) -> None:
        for fact in results:
            await self._log.append(job.work.route.ref, fact)
        metering.stepped(self._model, job.work, results)

    def _give_up(self, job: Attempted, failure: Failure) -> Sequence[Message]:
        attempt = job.work.route.attempt + job.delivery.deliveries - 1
        return self._inference.failed(job.work, attempt, failure)


def lanes_of(bus: Bus, inference: Inference, state: WorkerState) -> list[Lane]:
    """All that a worker reads: its own lane, and those that it shares."""
    return [Lane(bus, inference, state, name) for name in (None, *LANES)]


def _read(delivery: Delivery) -> Attempted:
    return Attempted(decode(delivery.body, InferStep), delivery)


class Direct:
    """Stateless completions, the aborts of everything, the ends of sessions.

    `beat` is how often, in seconds, one that takes long is said to go on; `spans` is what traces
    are told to, where anybody wants them.
    """

    def __init__(
        self,
        bus: Bus,
        inference: Inference,
        worker: str,
        *,
        beat: float = BEAT,
        spans: Spans | None = None,
    ) -> None:
        self._bus, self._books, self._inference = bus, Books(bus), inference
        self._subject = direct_subject(worker)
        self._subscriptions: list[Subscription] = []
        self._running: dict[asyncio.Task[None], str] = {}
        self._beat, self._spans = beat, spans
        self._beating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Subscribe."""
        self._subscriptions = [
            await self._bus.nc.subscribe(self._subject, cb=self._on_request),
            await self._bus.nc.subscribe("cancel.*.*.*", cb=self._on_abort),
            await self._bus.nc.subscribe(ENDED, cb=self._on_ended),
        ]
        self._beating = asyncio.create_task(self._beat_often())

    async def stop(self) -> None:
        """Take no more; give what runs five seconds, and the bill of what has run two more."""
        for subscription in self._subscriptions:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=5)
            for task in late:
                task.cancel()
        if self._beating is not None:
            self._beating.cancel()
        await self._books.stop(2)

    async def _on_abort(self, message: Msg) -> None:
        _, tenant, session, task = message.subject.split(".")
        await self._inference.abort(SessionRef(tenant, session), task)

    async def _on_ended(self, message: Msg) -> None:
        _, tenant, session = message.subject.split(".")
        self._inference.forget(SessionRef(tenant, session))

    async def _on_request(self, message: Msg) -> None:
        task = asyncio.create_task(self._answer(message))
        self._running[task] = message.reply
        task.add_done_callback(self._running.pop)

    async def _beat_often(self) -> None:
        """For those that ran at the last beat already: an answer that nobody reads along, or that
        waits for its turn, is silent for as long as it takes."""
        known: set[str] = set()
        while True:
            await asyncio.sleep(self._beat)
            running = set(self._running.values())
            for reply in known & running:
                with contextlib.suppress(Transient):
                    await alive(self._bus, reply)
            known = running

    async def _answer(self, message: Msg) -> None:
        heard: list[DirectRequest] = []
        outcome = await attempt(lambda: self._stream(message, heard), self._bus.log)
        if isinstance(outcome, Failure):
            with contextlib.suppress(Transient):
                event = DirectEvent(error=outcome, recorded=bool(heard))
                await self._bus.send(message.reply, encode(event))
            for request in heard:  # the client knows already; the request log should too
                fact = self._inference.not_completed(request, outcome)
                self._enter(request, fact)
                self._tell(message, request, fact)

    def _enter(self, request: DirectRequest, fact: Completed) -> None:
        if not request.count_only:  # who only counts is charged nothing
            ref = SessionRef(request.tenant, DIRECT_SESSION)
            metering.completed(fact.model, request.tenant, fact)
            self._books.enter(Entry(ref, fact, request.trace_id))

    async def _stream(self, message: Msg, heard: list[DirectRequest]) -> None:
        self._books.check()
        request = await received(self._bus, message)
        heard.append(request)
        if request.trace_id:  # its log lines say so
            serving(TraceContext(request.trace_id, request.trace_id[:16]))
        async with contextlib.aclosing(self._inference.complete(request)) as events:
            async for event in events:
                await answered(self._bus, request, event, message.reply)
                if event.done is not None:
                    fact = self._inference.completed(request, event.done, event.error)
                    self._enter(request, fact)
                    self._tell(message, request, fact)

    def _tell(self, message: Msg, request: DirectRequest, fact: Completed) -> None:
        """The trace that the request is of, where it is kept."""
        parent = context_of((message.headers or {}).get(TRACEPARENT))
        if self._spans is not None and parent is not None and parent.sampled:
            self._spans.record(completion_span(request, fact, parent, now()))


class Tokens:
    """`TokenSink` on stream TOKENS, without acknowledgement."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def delta(self, route: RouteStep, attempt: int, told: Told) -> None:
        """See `TokenSink.delta`."""
        delta = TokenDelta(
            task=route.task,
            step=route.step,
            index=told.index,
            text=told.text,
            attempt=attempt,
            reasoning=told.reasoning,
        )
        headers = {
            TASK_HEADER: route.task,
            ATTEMPT_HEADER: str(attempt),
            "traceparent": traceparent(route.ref, route.task, str(route.step)),
        }
        with contextlib.suppress(Transient):  # the fact brings the text again
            await self._bus.send(tokens_subject(route.ref, route.task), encode(delta), headers)


class Presence:
    """Reports the worker to KV `workers` every second; the entry is removed at an orderly end.

    While its lanes finish what they have, it reports no slots: nothing new comes. It is gone only
    then, since the router takes back the work of a worker that is gone.
    """

    def __init__(
        self, bus: Bus, inference: Inference, state: WorkerState, lanes: Sequence[Lane] = ()
    ) -> None:
        self._bus, self._inference, self._state, self._lanes = bus, inference, state, lanes
        self._slots, self._broken = state.slots, 0
        self._kv = KeyValue(bus, WORKERS)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Report for the first time: from now on the router sends work."""
        metering.show(self._state.model)
        await self._report()
        self._task = asyncio.create_task(self._often())

    async def stop(self) -> None:
        """Take no more; when the lanes have ended, say goodbye."""
        self._slots = 0
        with contextlib.suppress(Transient):
            await self._report()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE + 1.0):
                await asyncio.gather(*(lane.ended.wait() for lane in self._lanes))
        if self._task is not None:
            self._task.cancel()
        with contextlib.suppress(Transient):
            await self._kv.delete(as_token(self._state.worker))

    async def _report(self) -> None:
        stats = self._inference.stats()
        if stats.prefixes_broken > self._broken:
            self._bus.log.warning("prompt.prefix_broken", times=stats.prefixes_broken)
            self._broken = stats.prefixes_broken
        slots = min(self._slots, stats.capacity)
        waiting = stats.waiting + self._inference.gate.waiting
        metering.busy(self._state.model, slots, waiting, stats)
        state = replace(
            self._state,
            slots=slots,
            running=stats.running,
            waiting=waiting,
            blocks=stats.blocks_total,
            blocks_free=stats.blocks_free,
            blocks_cached=stats.blocks_cached,
            prefixes_broken=stats.prefixes_broken,
            out=stats.out,
        )
        await self._kv.put(as_token(state.worker), encode(state))

    async def _often(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_EVERY)
            with contextlib.suppress(Transient):
                await self._report()
