"""The edges run as FastStream applications; consuming from a stream stays with `consume`.

FastStream brings the application shell and the request/reply subscribers (not the AsyncAPI
document: decision record 0052).
Its pull subscriber is not used: it fetches up to three times what it has workers for, so that what
waits for a worker is redelivered; its ack policies lose or burn messages (facts: nats.md section
3); and nobody would create a lost consumer again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import cached_property
from types import TracebackType
from typing import Any

import nats.errors
from faststream.nats import (
    NatsBroker,
    NatsCredentials,
    NatsMessage,
    NatsNKey,
    NatsSecurity,
    NatsToken,
)

from shared.bus.connect import Bus
from shared.bus.consume import Consuming, Job, attempt
from shared.bus.denials import Denials
from shared.bus.login import Login, login_of
from shared.bus.trust import distrusted, stuck
from shared.contracts.base import Message, decode, encode
from shared.errors import Failure, Transient
from shared.settings import Address
from shared.telemetry import Handled, handling

_AT_ONCE = 32
"""Requests that a replica answers side by side: one that waits must not hold up the others."""


class Edge(NatsBroker):
    """A FastStream broker, and the consumers that live as long as it runs."""

    @cached_property
    def consuming(self) -> list[Consuming[Any]]:
        """What `subscribe` has added."""
        return []

    @property
    def connected(self) -> bool:
        """Whether it has been, once."""
        return self._connection is not None

    async def start(self) -> None:
        """Connect, answer requests, then consume."""
        await super().start()
        for one in self.consuming:
            await one.start()

    async def stop(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        """Hand back what is unfinished first: requests are answered until then."""
        for one in self.consuming:
            await one.stop()
        connection = self._connection
        try:
            await super().stop(exc_type, exc_val, exc_tb)
        except nats.errors.Error:  # the server is away: there is nothing to flush to
            if connection is not None:
                await connection.close()


def make_broker(address: Address, name: str, denials: Denials | None = None) -> Edge:
    """A FastStream broker on our terms: no type magic (110 microseconds a parameter), for ever.

    `denials` hears of what the server refuses this second connection of the service.
    """
    logger = logging.getLogger("faststream")
    login = login_of(address, name)

    async def failed(error: Exception) -> None:
        if denials is None or not denials.notice(error):
            logger.warning("bus.error: %s", type(error).__name__)
        if login.tls is not None and not edge.connected and stuck(error):
            raise distrusted(error) or Transient("bus_unavailable", type(error).__name__)

    edge = Edge(
        address.servers,
        name=name,
        logger=logger,
        log_level=logging.DEBUG,
        apply_types=False,
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        pending_size=64 << 20,
        security=_security(login),
        inbox_prefix=login.inbox,
        error_cb=failed,
    )
    return edge


def _security(login: Login) -> NatsSecurity | None:
    first = login.tls is not None  # see shared.bus.trust
    if login.seed:
        return NatsNKey.from_seed(login.seed, ssl_context=login.tls, tls_handshake_first=first)
    if login.jwt_file:
        return NatsCredentials(login.jwt_file, ssl_context=login.tls, tls_handshake_first=first)
    if login.token:
        return NatsToken(login.token, ssl_context=login.tls, tls_handshake_first=first)
    return NatsSecurity(ssl_context=login.tls, tls_handshake_first=first) if first else None


async def _as_it_is(message: NatsMessage) -> NatsMessage:
    return message


def subscribe[M](broker: Edge, bus: Bus, job: Job[M], concurrency: int) -> None:
    """Consume a durable pull consumer of the subject table while the broker runs."""
    broker.consuming.append(Consuming(bus, job, concurrency))


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
        if not raw.reply:
            return  # nobody would hear the answer
        handling(Handled(raw.subject, raw.headers or {}))
        reply = await attempt(lambda: handle(decode(raw.data, question)), bus.log)
        await raw.respond(encode(refuse(reply) if isinstance(reply, Failure) else reply))

    broker.subscriber(subject, queue=f"answer-{subject}", decoder=_as_it_is, max_workers=_AT_ONCE)(
        on_request
    )
