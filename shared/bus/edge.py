"""The edges run as FastStream applications; acknowledgement stays with `consume.settle`.

FastStream brings the application shell, the request/reply subscribers and the AsyncAPI document.
Its own ack policies lose or burn messages (facts: nats.md section 3), so they are off.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from faststream import AckPolicy
from faststream.nats import (
    JStream,
    NatsBroker,
    NatsCredentials,
    NatsMessage,
    NatsSecurity,
    NatsToken,
    PullSub,
)
from nats.js.api import ConsumerConfig

from shared.bus import topology
from shared.bus.connect import Bus
from shared.bus.consume import Job, attempt, settle
from shared.contracts.base import Message, decode, encode
from shared.errors import Failure
from shared.settings import Address

_AT_ONCE = 32
"""Requests that a replica answers side by side: one that waits must not hold up the others."""


def make_broker(address: Address, name: str) -> NatsBroker:
    """A FastStream broker on our terms: no type magic (110 microseconds a parameter), for ever."""
    return NatsBroker(
        address.url,
        name=name,
        logger=logging.getLogger("faststream"),
        log_level=logging.DEBUG,
        apply_types=False,
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        pending_size=64 << 20,
        security=_security(address),
    )


def _security(address: Address) -> NatsSecurity | None:
    if address.creds:
        return NatsCredentials(str(address.creds))
    return NatsToken(address.token) if address.token else None


async def _as_it_is(message: NatsMessage) -> NatsMessage:
    return message


def subscribe[M](broker: NatsBroker, bus: Bus, job: Job[M], concurrency: int) -> None:
    """Consume a durable pull consumer of the subject table, `concurrency` messages at a time."""
    row = job.consumer

    async def on_message(message: NatsMessage) -> None:
        await settle(bus, message.raw_message, job)

    broker.subscriber(
        stream=JStream(row.stream, declare=False),
        durable=row.name,
        pull_sub=PullSub(batch_size=concurrency, timeout=5.0),
        max_workers=max(2, concurrency),
        decoder=_as_it_is,
        ack_policy=AckPolicy.MANUAL,
        config=ConsumerConfig(
            filter_subjects=list(row.filters),
            ack_wait=row.ack_wait,
            max_deliver=topology.consumer_config(row)["max_deliver"],
            max_ack_pending=row.max_ack_pending,
            mem_storage=row.memory,
        ),
    )(on_message)

    async def restore() -> None:
        await topology.ensure(bus)
        await topology.ensure_consumer(bus, row)

    bus.on_reconnect(restore)


def answer[Q: Message, A: Message](
    broker: NatsBroker,
    bus: Bus,
    subject: str,
    question: type[Q],
    handle: Callable[[Q], Awaitable[A]],
    refuse: Callable[[Failure], A],
) -> None:
    """Answer core requests on a subject; replicas of a service share them (queue group)."""

    async def on_request(message: NatsMessage) -> None:
        raw = message.raw_message
        reply = await attempt(lambda: handle(decode(raw.data, question)), bus.log)
        await raw.respond(encode(refuse(reply) if isinstance(reply, Failure) else reply))

    broker.subscriber(subject, queue=f"answer-{subject}", decoder=_as_it_is, max_workers=_AT_ONCE)(
        on_request
    )
