"""Who may send to a channel and who hears it, told from the table of permissions (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from infra.docs.channels import Channel
from shared.subjects import (
    CONSUMERS,
    LANES,
    PARTITIONS,
    STREAMS,
    TRACES,
    Consumer,
    infer_consumer,
    sessions_consumer,
    shared_infer_consumer,
    spending_consumer,
)
from shared.subjects.permissions import (
    GRANTS,
    SHARED_WITH_TENANTS,
    Permissions,
    permissions_of,
    place_of,
)

TENANT = "tenant"
"""A tenant's own client of the bus."""
_MODEL, _ID = "m", "x"


@dataclass(frozen=True, slots=True)
class Part:
    """What one party does at one channel, and by which ways."""

    party: str
    action: Literal["send", "receive"]
    ways: tuple[str, ...]


def overlap(one: str, other: str) -> bool:
    """Whether a subject exists that falls under both patterns."""
    for left, right in zip(one.split("."), other.split("."), strict=False):
        if ">" in (left, right):
            return True
        if left != right and "*" not in (left, right):
            return False
    return one.count(".") == other.count(".")


def parties() -> dict[str, Permissions]:
    """Everybody but the operator, who may do everything."""
    shared = SHARED_WITH_TENANTS
    services = {name: permissions_of(name) for name in GRANTS}
    return services | {TENANT: Permissions(shared.services, shared.streams)}


def parts_in(channel: Channel) -> tuple[Part, ...]:
    """What everybody may do there."""
    found: list[Part] = []
    for party, may in parties().items():
        if _among(may.publish, channel.pattern):
            found.append(Part(party, "send", ("publish",)))
        if ways := tuple(dict.fromkeys(_heard(may, channel))):
            found.append(Part(party, "receive", ways))
    return tuple(found)


def streams_of(channel: Channel) -> tuple[str, ...]:
    """The streams that keep what is sent to a channel."""
    if channel.pattern.startswith("$KV."):
        return (f"KV_{channel.pattern.split('.')[1]}",)
    return tuple(row.name for row in STREAMS if _among(row.subjects, channel.pattern))


def _among(patterns: Iterable[str], subject: str) -> bool:
    return any(overlap(pattern, subject) for pattern in patterns)


def _calls(may: Permissions, api: str) -> bool:
    """Whether a question to JetStream is let through."""
    return _among(may.publish, api) and not _among(may.publish_denied, api)


def _heard(may: Permissions, channel: Channel) -> Iterator[str]:
    """Subscriptions, consumers, and streams that are read message by message."""
    if _among(may.subscribe, channel.pattern):
        yield "subscribe"
    for name, row in _consumers():
        asks = f"$JS.API.CONSUMER.MSG.NEXT.{place_of(row).path}"
        if _among(row.filters, channel.pattern) and _calls(may, asks):
            yield f"consumer {name}"
    for stream in streams_of(channel):
        if _calls(may, f"$JS.API.DIRECT.GET.{stream}"):
            yield f"read {stream}"


@cache
def _consumers() -> tuple[tuple[str, Consumer], ...]:
    """Every consumer there is; of those that there are many of, one stands for all."""
    fixed = ((row.name, row) for row in (*CONSUMERS, TRACES))
    owners = (("sessions-*", sessions_consumer(number)) for number in range(PARTITIONS))
    shared = (("infer-*", _any(shared_infer_consumer(_MODEL, lane))) for lane in LANES)
    alone = ("infer-w-*", _any(infer_consumer(_MODEL, _ID)))
    return (*fixed, *owners, *shared, alone, ("spending-*", spending_consumer(_ID)))


def _any(row: Consumer) -> Consumer:
    """The consumer for every model and worker."""
    wild = {_MODEL: "*", _ID: "*"}
    filters = (".".join(wild.get(part, part) for part in one.split(".")) for one in row.filters)
    return replace(row, filters=tuple(filters))
