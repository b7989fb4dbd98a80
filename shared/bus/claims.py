"""The claim check: a body that is too large for a message lies in stream BLOBS, and the message

says where. Whoever publishes or reads through this module sees whole bodies only; nobody else has
to know.

    body > LIMIT --parts--> blob.<tenant>.<owner>.<key>.<n>      (first; its own time to live)
         +------- claim --> the subject of the message           (then, with header Millrace-Claim)

The owner is a session, and its deletion takes the parts along; it follows from the message's own
subject on both sides, so a forged claim finds what its own session holds and nothing else. The key
is the body's hash: a publication that is repeated after a crash has the same bytes, and the same
message id. Source of the pattern: Hohpe and Woolf, Enterprise Integration Patterns, "Claim Check".
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence

import orjson

from shared.bus.connect import Bus, PubAck
from shared.contracts.base import SessionRef, decode, encode
from shared.contracts.claims import Claim, Claimed
from shared.errors import Permanent, Transient
from shared.subjects import BLOBS, blob_filter, blob_subject

CLAIM = "Millrace-Claim"
LIMIT = 256 * 1024
"""Bytes of a body that travel in the message itself."""
PART = 512 * 1024
MOST = 64 << 20
"""Bytes of a body at most: it is in memory, in one piece, wherever it is read."""
FOR_FACTS, FOR_EVER, FOR_REPLIES = "744h", "", "10m"
"""How long parts are kept: a day longer than the log, until they are removed, or just long enough
for a request and its answer."""
_AT_ONCE = 4
_BEHIND = (0.0, 0.02, 0.1, 0.5)
"""Seconds between looks for a part: a server may be a moment behind its cluster."""


async def publish(
    bus: Bus,
    owner: SessionRef,
    subject: str,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    keep: str = FOR_FACTS,
) -> PubAck:
    """`Bus.publish` for a body of any size up to `MOST`.

    Raises:
        Permanent: `payload_too_large`, and what `Bus.publish` raises.
        Transient: `bus_unavailable`.
    """
    sent, extra = await checked_in(bus, owner, body, keep=keep)
    return await bus.publish(subject, sent, {**headers, **extra} if headers else extra)


async def checked_in(
    bus: Bus, owner: SessionRef, body: bytes, *, keep: str = FOR_FACTS
) -> tuple[bytes, dict[str, str]]:
    """What to send for a body, and the headers to add.

    Raises:
        Permanent: `payload_too_large`.
        Transient: `bus_unavailable`.
    """
    if len(body) <= limit_of(bus):
        return body, {}
    claim = await deposit(bus, owner, body, keep=keep)
    return encode(Claimed(claim=claim)), {CLAIM: "1"}


def limit_of(bus: Bus) -> int:
    """Bytes that travel in a message: ours, or half of what a smaller server takes."""
    return min(LIMIT, bus.nc.max_payload // 2)


async def deposit(
    bus: Bus, owner: SessionRef, body: bytes, *, keep: str = FOR_FACTS, key: str = ""
) -> Claim:
    """Store the parts; durable when this returns. `key` in the place of the body's hash.

    Raises:
        Permanent: `payload_too_large`.
        Transient: `bus_unavailable`.
    """
    if len(body) > MOST:
        raise Permanent(
            "payload_too_large", f"{len(body)} bytes are more than {MOST}: send it in pieces"
        )
    size = min(PART, bus.nc.max_payload // 2)
    parts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    digest = digest_of(body)
    claim = Claim(key=key or digest, digest=digest, size=len(body), parts=len(parts))
    headers = {"Nats-TTL": keep} if keep else None
    for first in range(0, len(parts), _AT_ONCE):
        numbered = enumerate(parts[first : first + _AT_ONCE], first)
        await asyncio.gather(
            *(bus.publish(blob_subject(owner, claim.key, n), part, headers) for n, part in numbered)
        )
    return claim


def digest_of(body: bytes) -> str:
    """The hash that a claim carries."""
    return hashlib.blake2b(body, digest_size=20).hexdigest()


async def opened(
    bus: Bus, owner: SessionRef | None, body: bytes, headers: Mapping[str, str] | None
) -> bytes:
    """The whole body of a message: what it carries, or what it claims.

    Raises:
        Permanent: `payload_missing`, `payload_corrupt`; `invalid_message` for what is no claim.
        Transient: `bus_unavailable`.
    """
    if not headers or CLAIM not in headers:
        return body
    if owner is None:
        raise Permanent("payload_missing", "a claim on a subject that belongs to nobody")
    return await redeem(bus, owner, decode(body, Claimed).claim)


async def redeem(bus: Bus, owner: SessionRef, claim: Claim) -> bytes:
    """The body that a claim stands for.

    Raises:
        Permanent: `payload_missing`, `payload_corrupt`.
        Transient: `bus_unavailable`.
    """
    if claim.size > MOST:
        raise Permanent("payload_corrupt", f"a claim of {claim.size} bytes is none of ours")
    parts: list[bytes] = []
    for first in range(0, claim.parts, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, claim.parts))
        parts += await asyncio.gather(
            *(_part(bus, blob_subject(owner, claim.key, n)) for n in numbers)
        )
    return _checked(claim, parts)


def _checked(claim: Claim, parts: Sequence[bytes]) -> bytes:
    body = b"".join(parts)
    if len(body) != claim.size or digest_of(body) != claim.digest:
        raise Permanent("payload_corrupt", "what is stored is not what was claimed")
    return body


async def _part(bus: Bus, subject: str) -> bytes:
    """By its subject, not by a sequence: whoever stores the same body again moves the parts."""
    query = orjson.dumps({"last_by_subj": subject})
    for pause in _BEHIND:
        await asyncio.sleep(pause)
        reply = await bus.stored(f"$JS.API.DIRECT.GET.{BLOBS}", query)
        headers = reply.headers or {}
        if "Nats-Sequence" in headers:
            return reply.data
        if headers.get("Status") != "404":
            raise Transient("bus_unavailable", f"direct get answered {headers.get('Status')}")
    raise Permanent("payload_missing", "the stored part of this message is gone")


async def discard(bus: Bus, owner: SessionRef, key: str = "*") -> None:
    """Remove the parts under a key, or all of an owner's.

    Raises:
        Transient: `bus_unavailable`.
    """
    await bus.api(f"STREAM.PURGE.{BLOBS}", {"filter": blob_filter(owner, key)})
