"""The direct path: a stateless completion over core request/reply, streamed to an inbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import nats.errors

from shared.bus.connect import Bus
from shared.contracts.base import SessionRef, decode, encode
from shared.contracts.tokens import DirectEvent
from shared.contracts.work import DirectRequest
from shared.errors import Transient
from shared.subjects import DIRECT_ROUTE, DIRECT_SESSION, abort_subject

_SILENCE = 60.0
"""Seconds without an event after which a worker counts as lost (it sends a beat every few)."""


async def complete(bus: Bus, request: DirectRequest) -> AsyncGenerator[DirectEvent]:
    """The events of a completion; the last one has `done` or `error`. Closing it aborts it.

    Raises:
        Transient: `no_responders`, `request_timeout`, `bus_unavailable`.
    """
    inbox = bus.nc.new_inbox()
    subscription = await bus.nc.subscribe(inbox, pending_bytes_limit=0)
    ended = False
    try:
        await bus.send(DIRECT_ROUTE, encode(request), reply=inbox)
        while True:
            message = await subscription.next_msg(timeout=_SILENCE)
            if (message.headers or {}).get("Status") == "503":
                ended = True
                raise Transient("no_responders", "no router runs", retry_after=1.0)
            event = decode(message.data, DirectEvent)
            ended = event.done is not None or event.error is not None
            if event != DirectEvent():  # an empty event is a sign of life
                yield event
            if ended:
                return
    except nats.errors.TimeoutError as error:
        raise Transient("request_timeout", "the worker fell silent") from error
    except nats.errors.Error as error:
        raise Transient("bus_unavailable", type(error).__name__) from error
    finally:
        with suppress(nats.errors.Error, Transient, asyncio.CancelledError):
            if not ended:
                ref = SessionRef(request.tenant, DIRECT_SESSION)
                await bus.send(abort_subject(ref, request.id), b"")
            await subscription.unsubscribe()
