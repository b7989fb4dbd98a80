"""Puts what nobody could process into stream DEAD: one letter per message and consumer.

A letter has a subject of its own, made of its owner and the original's place, and the server
refuses a second message there: however often a burial is repeated, there is one letter.
"""

from __future__ import annotations

import base64
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson
from nats.aio.msg import Msg

from shared.bus.connect import Bus
from shared.clock import now
from shared.contracts.base import SessionRef, encode
from shared.contracts.dead import DeadLetter, Try
from shared.contracts.log import MSG_ID
from shared.errors import Failure, Permanent
from shared.metrics.catalogue import DEAD_LETTERS
from shared.subjects import NOBODY, Grave, owner_in, queue_of

LONGEST_BODY, CUT = 128 * 1024, "... (cut here; the original is in its stream)"
_LONGEST_HEADERS, _LONGEST_HEADER = 64 * 1024, 1024
_MOST_TRIES = 1000
BASE64 = "base64:"
_STEP_ID = re.compile(r"([A-Za-z0-9_-]{1,64})/([A-Za-z0-9_-]{1,64})/([A-Za-z0-9_-]{1,64})\.(\d+)/")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message of a stream as it arrives: `deliveries` counts the tries, this one included."""

    subject: str
    body: bytes
    stream: str
    sequence: int
    deliveries: int
    time: float
    headers: dict[str, str] = field(default_factory=dict)


def delivery_of(message: Msg) -> Delivery:
    """The facts of a JetStream message."""
    meta = message.metadata
    return Delivery(
        message.subject,
        message.data,
        meta.stream,
        meta.sequence.stream,
        meta.num_delivered,
        meta.timestamp.timestamp(),
        message.headers or {},
    )


def found_again(message: Msg, stream: str, deliveries: int) -> Delivery:
    """A message that came by direct get, as the delivery that it was."""
    headers = dict(message.headers or {})
    subject, sequence = headers["Nats-Subject"], int(headers["Nats-Sequence"])
    own = {name: value for name, value in headers.items() if name not in _ADDED}
    stamp = time_of(headers["Nats-Time-Stamp"])
    return Delivery(subject, message.data, stream, sequence, deliveries, stamp, own)


_ADDED = frozenset(
    {
        *("Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp", "Nats-Num-Pending"),
        *("Nats-Last-Sequence", "Nats-UpTo-Sequence"),
    }
)


def time_of(stamp: str) -> float:
    """An RFC 3339 time, to the very number that a delivery's metadata gives for it."""
    head, _, fraction = stamp.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(head + "+00:00").timestamp())
    nanoseconds = seconds * 10**9 + int(fraction.ljust(9, "0") or 0)
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).timestamp()


class Tries:
    """What a process remembers of the failed tries of its messages, until they are settled."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, float], list[Try]] = OrderedDict()

    def note(self, delivery: Delivery, failure: Failure) -> None:
        """A try failed."""
        key = (delivery.sequence, delivery.time)
        made = Try(delivery=delivery.deliveries, time=round(now(), 3), error=failure)
        self._known.setdefault(key, []).append(made)
        if len(self._known) > _MOST_TRIES:
            self._known.popitem(last=False)

    def take(self, delivery: Delivery) -> tuple[Try, ...]:
        """The tries of a message, which are forgotten with this."""
        return tuple(self._known.pop((delivery.sequence, delivery.time), ()))


@dataclass(frozen=True, slots=True)
class StepAddress:
    """The step that a message of WORK is about."""

    ref: SessionRef
    task: str
    step: int


def step_of(body: bytes, headers: Mapping[str, str]) -> StepAddress | None:
    """The step of work, also where the body cannot be read: its message id is derived from it."""
    found = _STEP_ID.match(headers.get(MSG_ID, ""))
    if found is not None:
        tenant, session, task, step = found.groups()
        return StepAddress(SessionRef(tenant, session), task, int(step))
    try:
        work = orjson.loads(body)
        work = work.get("route") if isinstance(work.get("route"), dict) else work
        ref = SessionRef(str(work["ref"]["tenant"]), str(work["ref"]["session"]))
        return StepAddress(ref, str(work["task"]), int(work["step"]))
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError):
        return None


def grave_of(consumer: str, delivery: Delivery) -> Grave:
    """Where the letter about a message goes."""
    owner = owner_in(delivery.subject)
    if owner is None:
        step = step_of(delivery.body, delivery.headers)
        owner = SessionRef(NOBODY, NOBODY) if step is None else step.ref
    stamp = int(delivery.time * 1000)
    return Grave(owner, consumer, delivery.stream, delivery.sequence, stamp)


async def publish_dead(
    bus: Bus, consumer: str, delivery: Delivery, failure: Failure, tries: Sequence[Try] = ()
) -> None:
    """Store a message that nobody could process, once.

    Raises:
        Transient: the bus is away.
    """
    body = as_text(delivery.body)
    cut = len(body) > LONGEST_BODY  # quoted it may not fit into a message any more
    letter = DeadLetter(
        subject=delivery.subject,
        consumer=consumer,
        error=failure,
        deliveries=delivery.deliveries,
        body=body[:LONGEST_BODY] + CUT if cut else body,
        stream=delivery.stream,
        sequence=delivery.sequence,
        headers=_short(delivery.headers),
        time=delivery.time,
        tries=tuple(tries),
        original="cut" if cut else "whole",
    )
    await store_letter(bus, grave_of(consumer, delivery), letter)


async def store_letter(bus: Bus, grave: Grave, letter: DeadLetter) -> None:
    """Store a letter unless there is one already.

    Raises:
        Transient: the bus is away.
    """
    headers = {MSG_ID: grave.subject, "Nats-Expected-Last-Subject-Sequence": "0"}
    try:
        await bus.publish(grave.subject, encode(letter), headers)
    except Permanent as error:
        if error.code != "wrong_last_sequence":
            raise
    else:
        DEAD_LETTERS.add(queue_of(letter.consumer))


def as_text(body: bytes) -> str:
    """A body as it stands in a letter."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return BASE64 + base64.b64encode(body).decode()


def as_body(text: str) -> bytes:
    """The body that a letter quotes."""
    if text.startswith(BASE64):
        return base64.b64decode(text[len(BASE64) :])
    return text.encode()


def _short(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that fit into a letter: anybody may send a megabyte of them."""
    if sum(len(name) + len(value) for name, value in headers.items()) <= _LONGEST_HEADERS:
        return dict(headers)
    kept = [(name[:128], value[:_LONGEST_HEADER]) for name, value in headers.items()]
    return dict(kept[:32])
