"""The direct path: a stateless completion over core request/reply, streamed to an inbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import msgspec
import nats.errors
from msgspec.structs import replace
from nats.aio.msg import Msg

from shared.bus import claims
from shared.bus.connect import Bus
from shared.contracts.base import SessionRef, check_token, decode, encode
from shared.contracts.claims import ClaimedRequest
from shared.contracts.needs import EMBEDDINGS, needs_of
from shared.contracts.tokens import DirectEvent
from shared.contracts.work import DirectRequest, Target
from shared.errors import Permanent, Transient
from shared.subjects import DIRECT_ROUTE, DIRECT_SESSION, abort_subject
from shared.telemetry import requested
from shared.trace import TRACEPARENT

_SILENCE = 60.0
"""Seconds without an event after which a worker counts as lost."""
BEAT = 10.0
"""Seconds after which it says that it is not, where it has nothing else to say."""
_BEAT = DirectEvent()


async def complete(bus: Bus, request: DirectRequest) -> AsyncGenerator[DirectEvent]:
    """The events of a completion; the last one has `done` or `error`. Closing it aborts it.

    Raises:
        Transient: `no_responders`, `request_timeout`, `slow_reader`, `bus_unavailable`.
    """
    ended = False
    with bus.replies.open(_SILENCE) as answers:
        try:
            body, headers = await _sent(bus, request)
            await bus.send(DIRECT_ROUTE, body, headers, reply=answers.subject)
            while not ended:
                message = await answers.next()
                if message.headers and message.headers.get("Status") == "503":
                    ended = True
                    raise Transient("no_responders", "no router runs", retry_after=1.0)
                if message.headers and claims.CLAIM in message.headers:
                    owner = SessionRef(request.tenant, DIRECT_SESSION)
                    whole = await claims.opened(bus, owner, message.data, message.headers)
                    event = event_of(whole)
                else:
                    event = event_of(message.data)
                ended = event.done is not None or event.error is not None
                if event != _BEAT:  # an empty event is a sign of life
                    yield event
        finally:
            if not ended:
                ref = SessionRef(request.tenant, DIRECT_SESSION)
                with suppress(nats.errors.Error, Transient, asyncio.CancelledError):
                    await bus.send(abort_subject(ref, request.id), b"")


async def _sent(bus: Bus, request: DirectRequest) -> tuple[bytes, dict[str, str] | None]:
    """The request, or a claim on it with what the router has to know."""
    if needs := _needs(request):
        request = replace(request, needs=needs)
    body = encode(request)
    headers = _traced(request)
    if len(body) <= claims.limit_of(bus):
        return body, headers
    owner = SessionRef(request.tenant, DIRECT_SESSION)
    claim = await claims.deposit(bus, owner, body, keep=claims.FOR_REPLIES, key=request.id)
    small = ClaimedRequest(
        id=request.id, tenant=request.tenant, model=request.model, claim=claim, needs=needs
    )
    return encode(small), {claims.CLAIM: "1"} | (headers or {})


def _traced(request: DirectRequest) -> dict[str, str] | None:
    """The span that asks, for whoever makes another one below it; mostly nobody does."""
    asking = requested()
    if asking is None or asking.trace_id != request.trace_id:
        return None
    return {TRACEPARENT: str(asking)}


def _needs(request: DirectRequest) -> dict[str, str]:
    """Whoever only counts the prompt need not be able to answer it."""
    if request.count_only:
        return {}
    if request.embedding is not None:
        return {EMBEDDINGS: "model"}
    return needs_of(request.demands, request.sampling, request.tools)


async def received(bus: Bus, message: Msg) -> DirectRequest:
    """The request that has reached a worker, whole.

    Raises:
        Permanent: `invalid_message`, `payload_missing`, `payload_corrupt`.
        Transient: `bus_unavailable`.
    """
    if not message.headers or claims.CLAIM not in message.headers:
        return decode(message.data, DirectRequest)
    small = decode(message.data, ClaimedRequest)
    owner = SessionRef(check_token(small.tenant, "tenant"), DIRECT_SESSION)
    request = decode(await claims.redeem(bus, owner, small.claim), DirectRequest)
    if (request.id, request.tenant) != (small.id, small.tenant):
        raise Permanent("payload_corrupt", "what is stored is another request")
    return replace(request, target=small.target)


async def answered(bus: Bus, request: DirectRequest, event: DirectEvent, reply: str) -> None:
    """Send an event to whoever waits for it.

    Raises:
        Transient: `bus_unavailable`.
    """
    body = encode(event)
    if len(body) <= claims.limit_of(bus):
        await bus.send(reply, body)
        return
    owner = SessionRef(request.tenant, DIRECT_SESSION)
    body, headers = await claims.checked_in(bus, owner, body, keep=claims.FOR_REPLIES)
    await bus.send(reply, body, headers)


async def alive(bus: Bus, reply: str) -> None:
    """Tell whoever waits that an answer is still worked on.

    Raises:
        Transient: `bus_unavailable`.
    """
    await bus.send(reply, encode(_BEAT))


_EVENTS = msgspec.json.Decoder(DirectEvent)


def event_of(body: bytes) -> DirectEvent:
    """An event of an answer. By msgspec's own reader, in a third of the time: thousands of them
    come in a second. What it does not like is left to the one that all else is read with.

    Raises:
        Permanent: `invalid_message`.
    """
    try:
        return _EVENTS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decode(body, DirectEvent)


class Asked(msgspec.Struct, frozen=True):
    """What has to be known of a completion to place it: who asks, and for what."""

    id: str
    tenant: str
    model: str
    needs: dict[str, str] = msgspec.field(default_factory=dict)


def asked(body: bytes) -> Asked:
    """Of an encoded `DirectRequest`, without building the conversation in it: msgspec's reader
    skips what it was not asked for, and the worker checks it all in any case.

    Raises:
        Permanent: `invalid_message`.
    """
    try:
        return msgspec.json.decode(body, type=Asked)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decode(body, DirectRequest)  # says what is wrong, and where
        raise Permanent("invalid_message", "the body is no completion") from None


def placed(body: bytes, target: Target) -> bytes:
    """The encoded `DirectRequest` with its target (of two fields of a name the last one counts)."""
    return b'%s,"target":%s}' % (body.rstrip()[:-1], encode(target))
