"""The one place with acknowledgement, redelivery, heartbeat, termination and dead letters.

    handler returns        results are published, then the message is acknowledged
    Transient              redelivered after a growing delay (`retry_after` where given)
    Permanent, bad body    dead letter at once
    anything else          our bug: retried like Transient, logged as broken
    last try failed        dead letter, and the job's own "given up" results are published
    last try never ended   as above (the server delivers a few times more for that alone)

A crash between publishing and acknowledging repeats the handler; its results carry derived
message ids, so the repetition stores nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import nats.errors
from nats.aio.msg import Msg

from shared.bus import claims, topology
from shared.bus.burial import Delivery as Delivery
from shared.bus.burial import Tries, delivery_of, publish_dead
from shared.bus.connect import Bus
from shared.bus.pull import Pull
from shared.clock import monotonic, now
from shared.contracts.base import Message
from shared.errors import Broken, Failure, MillraceError, Permanent, Transient, failure_of
from shared.metrics.catalogue import (
    DEAD_LETTERS,
    MESSAGE_SECONDS,
    MESSAGE_WAIT,
    MESSAGES,
    REDELIVERIES,
)
from shared.subjects import Consumer, owner_of, queue_of
from shared.telemetry import Handled, Log, handling

FIRST_DELAY, LONGEST_DELAY = 0.2, 10.0
GRACE = 5.0
"""Seconds that what runs has to end when the process stops; a supervisor waits a little longer."""


@dataclass(frozen=True, slots=True)
class Job[M]:
    """What to do with the messages of one consumer.

    `read` turns a delivery into a message and raises `Permanent` where it cannot. `handle` returns
    the results, `emit` publishes them. `give_up` says what to publish when the message is dead.
    """

    consumer: Consumer
    read: Callable[[Delivery], M]
    handle: Callable[[M], Awaitable[Sequence[Message]]]
    emit: Callable[[M, Sequence[Message]], Awaitable[None]]
    give_up: Callable[[M, Failure], Sequence[Message]] | None = None
    tries: Tries = field(default_factory=Tries)
    """What has failed so far, for the letter."""


FRESH = 0.5
"""Seconds: from here on work is not as fresh as it should be."""


def doubtful(delivery: Delivery, asked: float, now: float) -> bool:
    """Whether work may have been done already: delivered before, handed out long after it was

    decided (by a loop that was cut off, say), or met long after it was handed out. Whoever meets it
    looks into the log first. `asked` is of the broker's clock; a `now` that is wrong costs a look.
    """
    late = asked > 0 and delivery.time - asked > FRESH
    return delivery.deliveries > 1 or late or now - delivery.time > FRESH


def retry_delay(deliveries: int, failure: Failure) -> float:
    """Seconds until the next try: doubling from 0.2 s up to 10 s, or what the failure asks."""
    if failure.retry_after is not None:
        return min(LONGEST_DELAY, max(0.0, failure.retry_after))
    return float(min(LONGEST_DELAY, FIRST_DELAY * 2 ** (deliveries - 1)))


Outcome = Literal["done", "retried", "dead", "returned"]


async def settle[M](bus: Bus, message: Msg, job: Job[M]) -> None:
    """Take one message from delivery to its end. Never raises, except when cancelled."""
    delivery = delivery_of(message)
    handling(Handled(delivery.subject, delivery.headers, sequence=delivery.sequence))
    queue, begun = queue_of(job.consumer.name), monotonic()
    if delivery.deliveries > 1:
        REDELIVERIES.add(queue)
    else:
        MESSAGE_WAIT.observe(now() - delivery.time, queue)
    outcome: Outcome = "returned"
    try:
        outcome = await _settle(bus, message, delivery, job)
    finally:
        MESSAGES.add(queue, outcome)
        if outcome == "done":
            MESSAGE_SECONDS.observe(monotonic() - begun, queue)


async def _settle[M](bus: Bus, message: Msg, delivery: Delivery, job: Job[M]) -> Outcome:
    try:
        subject = job.read(await whole(bus, delivery))
    except Permanent as error:
        return await _bury(bus, message, delivery, job, error.as_failure())
    except Transient as error:  # a body that lies elsewhere cannot be had now
        await _answer(message.nak(delay=retry_delay(delivery.deliveries, error.as_failure())))
        return "retried"
    except Exception as error:  # a reader's bug: the same bytes would meet it again
        bus.log.exception("message.broken", consumer=job.consumer.name, exc_info=error)
        return await _bury(bus, message, delivery, job, failure_of(error))
    beat = Heartbeat(message, job.consumer.ack_wait / 3)
    try:
        _check_tries(job.consumer, delivery)
        await job.emit(subject, await job.handle(subject))
        job.tries.take(delivery)
        bus.acks.give(message)
    except asyncio.CancelledError:
        await _answer(message.nak())  # shutting down: somebody else takes it at once
        raise
    except Exception as error:
        return await _failed(bus, message, delivery, job, (subject, error))
    finally:
        beat.stop()
    return "done"


async def whole(bus: Bus, delivery: Delivery) -> Delivery:
    """The delivery with the body that it claims, where it carries none itself.

    Raises:
        Permanent: `payload_missing`, `payload_corrupt`.
        Transient: `bus_unavailable`.
    """
    if claims.CLAIM not in delivery.headers:
        return delivery
    owner = owner_of(delivery.subject)
    body = await claims.opened(bus, owner, delivery.body, delivery.headers)
    return replace(delivery, body=body)


def _check_tries(consumer: Consumer, delivery: Delivery) -> None:
    """Whoever had the last try may have died over it, or could not publish that it failed.

    Raises:
        Broken: `tries_exhausted`.
    """
    if 0 < consumer.max_deliver < delivery.deliveries:
        raise Broken("tries_exhausted", f"{consumer.max_deliver} tries came to no end")


async def _failed[M](
    bus: Bus, message: Msg, delivery: Delivery, job: Job[M], what: tuple[M, Exception]
) -> Outcome:
    subject, error = what
    failure = failure_of(error)
    fields = {"consumer": job.consumer.name, "subject": delivery.subject, "code": failure.code}
    if not isinstance(error, MillraceError):
        bus.log.exception("message.broken", **fields, exc_info=error)
    last = 0 < job.consumer.max_deliver <= delivery.deliveries
    if failure.family != "permanent" and not last:
        delay = retry_delay(delivery.deliveries, failure)
        job.tries.note(delivery, failure)
        bus.log.info("message.retry", **fields, delay=delay, attempt=delivery.deliveries)
        await _answer(message.nak(delay=delay))
        return "retried"
    try:
        if job.give_up is not None:
            await job.emit(subject, job.give_up(subject, failure))
    except MillraceError as again:
        bus.log.warning("message.give_up_failed", **fields, error=str(again))
        await _answer(message.nak(delay=LONGEST_DELAY))
        return "retried"
    return await _bury(bus, message, delivery, job, failure)


async def _bury[M](
    bus: Bus, message: Msg, delivery: Delivery, job: Job[M], failure: Failure
) -> Outcome:
    """Dead letter first, then termination: what is not stored yet must not be dropped."""
    name, tries = job.consumer.name, job.tries.take(delivery)
    bus.log.warning("message.dead", consumer=name, subject=delivery.subject, code=failure.code)
    try:
        await publish_dead(bus, name, delivery, failure, tries)
    except MillraceError as error:
        bus.log.warning("message.dead_letter_failed", consumer=name, error=str(error))
        await _answer(message.nak(delay=LONGEST_DELAY))
        return "retried"
    await _answer(message.term())
    return "dead"


async def attempt[A](action: Callable[[], Awaitable[A]], log: Log) -> A | Failure:
    """The outcome of a request handler as a value: a caller must get an answer, even to a bug."""
    try:
        return await action()
    except Exception as error:
        failure = failure_of(error)
        if not isinstance(error, MillraceError):
            log.exception("request.broken", exc_info=error)
        return failure


class Heartbeat:
    """Tells the server every `period` seconds that the message is still being worked on.

    A timer, not a task: most messages are done long before the first beat.
    """

    def __init__(self, message: Msg, period: float) -> None:
        self._message, self._period = message, period
        self._beating: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(period, self._beat)

    def stop(self) -> None:
        """No more beats."""
        self._timer.cancel()

    def _beat(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._period, self._beat)
        self._beating = asyncio.create_task(_answer(self._message.in_progress()))


async def _answer(answer: Coroutine[None, None, object]) -> None:
    """Send ack, nak, term or in_progress; without a connection the redelivery does the rest."""
    try:
        await answer
    except nats.errors.Error:
        return


def _show(queue: str) -> None:
    """Have everything about a queue there from the start, at 0."""
    for outcome in get_args(Outcome):
        MESSAGES.show(queue, outcome)
    for metric in (REDELIVERIES, DEAD_LETTERS, MESSAGE_WAIT, MESSAGE_SECONDS):
        metric.show(queue)


class _Credit:
    """The room that one message takes; given back once, when it is finished or has begun."""

    def __init__(self, pull: Pull) -> None:
        self._pull, self._given = pull, False

    async def give(self) -> None:
        if self._given:
            return
        self._given = True
        with contextlib.suppress(Transient):  # no connection: the pull starts over later
            await self._pull.release()


_CREDIT: ContextVar[_Credit] = ContextVar("credit")


async def begun() -> None:
    """In a handler: the message waits no longer, so another one may come though it is not done.

    For consumers whose `concurrency` is how many may wait here, not how many are worked on.
    """
    await _CREDIT.get().give()


class Consuming[M]:
    """A running consumer: continuous pull, `concurrency` messages at a time."""

    def __init__(self, bus: Bus, job: Job[M], concurrency: int) -> None:
        self._bus, self._job = bus, job
        self._running: set[asyncio.Task[None]] = set()
        _show(queue_of(job.consumer.name))
        self._pull = Pull(
            bus,
            job.consumer,
            self._spawn,
            self._prepare,
            room=concurrency,
            credit=True,
        )

    async def _prepare(self) -> None:
        try:
            await topology.ensure_consumer(self._bus, self._job.consumer)
        except Permanent:  # the stream itself is gone: a server that lost its memory
            await topology.ensure(self._bus)
            await topology.ensure_consumer(self._bus, self._job.consumer)

    async def _spawn(self, message: Msg) -> None:
        task = asyncio.create_task(self._one(message))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _one(self, message: Msg) -> None:
        credit = _Credit(self._pull)
        _CREDIT.set(credit)  # of this task alone
        try:
            await settle(self._bus, message, self._job)
        finally:
            await credit.give()

    async def start(self) -> None:
        """Begin to pull."""
        await self._pull.start()

    async def stop(self, grace: float = GRACE) -> None:
        """Pull nothing more; give running handlers `grace` seconds, then hand back the rest."""
        await self._pull.stop()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._bus.acks.flush()
