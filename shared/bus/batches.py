"""Facts that have nothing to do with each other, stored in one go.

A fact by itself costs the server a look, a write and an fsync; those of an atomic batch share most
of it (ADR 0030). A batch is stored as a whole or not at all, and one message that is stored already
spoils it: then its facts are appended one by one, which is what repeating them is safe with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from shared.bus import claims
from shared.bus.connect import Bus
from shared.bus.log import RunLog, fact_headers
from shared.clock import mint_id
from shared.contracts.base import Message, SessionRef, encode
from shared.errors import Permanent, Transient
from shared.subjects import BY_TYPE, fact_subject

MOST = 256
"""Facts of a batch; the server takes a thousand messages at most."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A fact, where it belongs, and the trace that it is of."""

    ref: SessionRef
    fact: Message
    trace_id: str = ""


async def append_all(bus: Bus, entries: Sequence[Entry], *, patience: float = 30.0) -> None:
    """Append facts of which none must be unique; durable when this returns, in no given order.

    Repeating it stores nothing twice, whatever became of it the first time.

    Raises:
        Transient: `bus_unavailable`: some are not stored.
        Permanent: all but some are stored, and those will not be.
    """
    if len(entries) > 1:
        try:
            await _batch(bus, entries)
        except (Permanent, Transient):
            pass  # none of it is stored, or all: the message ids tell
        else:
            return
    await _one_by_one(RunLog(bus), entries, patience)


async def _batch(bus: Bus, entries: Sequence[Entry]) -> None:
    name, last = mint_id("batch"), len(entries)
    bodies = [encode(entry.fact) for entry in entries]
    if last > MOST or max(map(len, bodies)) > claims.limit_of(bus):
        raise Permanent("payload_too_large", "this does not fit into a batch")
    for number, (entry, body) in enumerate(zip(entries, bodies, strict=True), 1):
        if BY_TYPE[type(entry.fact)].guarded:
            raise Permanent("invalid_request", "a fact that must be unique is appended by itself")
        subject = fact_subject(entry.ref, entry.fact)
        headers = fact_headers(entry.ref, entry.fact, entry.trace_id)
        headers |= {"Nats-Batch-Id": name, "Nats-Batch-Sequence": str(number)}
        if number < last:
            await bus.send(subject, body, headers)
        else:
            await bus.publish(subject, body, headers | {"Nats-Batch-Commit": "1"})


async def _one_by_one(log: RunLog, entries: Sequence[Entry], patience: float) -> None:
    outcomes = await asyncio.gather(
        *(
            log.append(entry.ref, entry.fact, trace_id=entry.trace_id, patience=patience)
            for entry in entries
        ),
        return_exceptions=True,
    )
    errors = [one for one in outcomes if isinstance(one, BaseException)]
    for error in sorted(errors, key=lambda one: not isinstance(one, Transient)):
        raise error
