"""Sees to it that every death has its letter and its consequence.

The server tells of messages that nobody settled (a worker was killed over the last delivery) or
that were terminated; where no letter about one exists, it is written here, with the original
fetched from its stream. And whatever a letter is about, the session that waits for it is told.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.sessions.core.burial import Loss, missing_fact
from shared.bus.burial import (
    Delivery,
    as_body,
    found_again,
    publish_dead,
    step_of,
    store_letter,
    time_of,
)
from shared.bus.connect import ApiError, Bus
from shared.bus.consume import Consuming, Job
from shared.bus.log import RunLog, last_message, message_at
from shared.contracts.base import Message, SessionRef, decode
from shared.contracts.dead import DeadLetter
from shared.contracts.work import InferStep, RouteStep, RunTool
from shared.errors import Failure, Permanent
from shared.subjects import (
    DEAD,
    NOBODY,
    STRAYS,
    STREAMS,
    TIMERS,
    UNDERTAKER,
    WORK,
    Grave,
    letters_about,
    owner_in,
)

_OURS = frozenset(row.name for row in STREAMS)
_SAME_DEATH = 120.0
"""Seconds between a letter and the server's notice of the same death at most."""


class Advisory(Message, frozen=True):
    """The server's notice that a message will not be delivered any more (ADR-15 of NATS)."""

    type: str
    timestamp: str
    stream: str
    consumer: str
    stream_seq: int
    deliveries: int = 0
    reason: str = ""


Found = Advisory | DeadLetter


class Undertaker:
    """Reads stream DEAD, and the tasks whose names no subject of ours can hold."""

    def __init__(self, bus: Bus) -> None:
        self._bus, self._log = bus, RunLog(bus)
        self._consuming: tuple[Consuming[Found], Consuming[None]] = (
            Consuming(bus, Job(UNDERTAKER, _read, self._handle, _nothing), concurrency=16),
            Consuming(bus, Job(STRAYS, _misplaced, _no_message, _nothing), concurrency=4),
        )

    async def start(self) -> None:
        """Begin."""
        for one in self._consuming:
            await one.start()

    async def stop(self) -> None:
        """Finish what is in hand."""
        for one in self._consuming:
            await one.stop()

    async def _handle(self, found: Found) -> Sequence[Message]:
        if isinstance(found, Advisory):
            await self._noticed(found)
        else:
            await self._told(found)
        return ()

    async def _noticed(self, notice: Advisory) -> None:
        """A message died: where whoever held it could not say so, say it now."""
        if notice.stream == DEAD or notice.stream not in _OURS:
            # a letter about a letter would have no end; other people's streams are theirs
            self._bus.log.error("undertaker.ignored", stream=notice.stream, seq=notice.stream_seq)
            return
        failure = Failure(
            code="terminated" if notice.type.endswith("terminated") else "tries_exhausted",
            family="broken",
            detail=notice.reason or f"{notice.deliveries} deliveries came to no end",
        )
        original = await self._original(notice)
        if original is not None:
            await publish_dead(self._bus, notice.consumer, original, failure)
        elif not await self._has_letter(notice):
            await self._without_original(notice, failure)

    async def _original(self, notice: Advisory) -> Delivery | None:
        """The message that died, unless its place is empty or taken by a later one."""
        message = await message_at(self._bus, notice.stream, notice.stream_seq)
        if message is None:
            return None
        found = found_again(message, notice.stream, notice.deliveries)
        return found if found.time <= time_of(notice.timestamp) else None

    async def _has_letter(self, notice: Advisory) -> bool:
        about = letters_about(notice.consumer, notice.stream, notice.stream_seq)
        letter = await last_message(self._bus, DEAD, about)
        if letter is None:
            return False
        stored = time_of((letter.headers or {})["Nats-Time-Stamp"])
        return abs(stored - time_of(notice.timestamp)) < _SAME_DEATH

    async def _without_original(self, notice: Advisory, failure: Failure) -> None:
        died = time_of(notice.timestamp)
        nobody = SessionRef(NOBODY, NOBODY)
        grave = Grave(nobody, notice.consumer, notice.stream, notice.stream_seq, int(died * 1000))
        letter = DeadLetter(
            subject="",
            consumer=notice.consumer,
            error=failure,
            deliveries=notice.deliveries,
            body="",
            stream=notice.stream,
            sequence=notice.stream_seq,
            time=died,
            original="gone",
        )
        await store_letter(self._bus, grave, letter)

    async def _told(self, letter: DeadLetter) -> None:
        """Tell the session; then nothing is left to be done with the original."""
        loss = _loss(letter)
        if loss is not None:
            fact = missing_fact(loss, await self._log.read(loss.ref))
            if fact is not None:
                self._bus.log.warning("session.told", session=str(loss.ref), task=loss.task)
                await self._log.append(loss.ref, fact)
        if letter.stream == WORK:
            await self._remove(letter)

    async def _remove(self, letter: DeadLetter) -> None:
        """A work queue keeps what was never settled, for ever."""
        message = await message_at(self._bus, WORK, letter.sequence)
        if message is None or found_again(message, WORK, 0).time != letter.time:
            return
        try:
            await self._bus.api(f"STREAM.MSG.DELETE.{WORK}", {"seq": letter.sequence})
        except ApiError as error:  # somebody else was faster
            self._bus.log.info("work.gone", sequence=letter.sequence, error=str(error))


def _loss(letter: DeadLetter) -> Loss | None:
    """Whom a death concerns. Facts and documents do not wait for anything."""
    if letter.stream == TIMERS:
        owner, parts = owner_in(letter.subject), letter.subject.split(".")
        return Loss(owner, parts[4], letter.error) if owner and len(parts) > 4 else None
    if letter.stream != WORK or letter.original == "gone":
        return None
    body = as_body(letter.body)
    address = step_of(body, letter.headers)
    if address is None:
        return None
    attempt = _attempt(letter.subject, body)
    return Loss(address.ref, address.task, letter.error, address.step, attempt)


def _attempt(subject: str, body: bytes) -> int:
    try:
        if subject.startswith("work.infer."):
            return decode(body, InferStep).route.attempt
        if subject.startswith("work.tool."):
            return decode(body, RunTool).attempt
        return decode(body, RouteStep).attempt
    except Permanent:
        return 1


def _read(delivery: Delivery) -> Found:
    if delivery.subject.startswith("dead."):
        return decode(delivery.body, DeadLetter)
    return decode(delivery.body, Advisory)


def _misplaced(delivery: Delivery) -> None:
    raise Permanent(
        "invalid_name", f"{delivery.subject[:120]!r}: a name holds a wildcard", field="subject"
    )


async def _no_message(_message: None) -> Sequence[Message]:
    return ()


async def _nothing(_message: object, _results: Sequence[Message]) -> None:
    """Everything was said already."""
