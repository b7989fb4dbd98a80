"""Creates what the subject table declares: streams, consumers, buckets. Idempotent.

Raw API calls, because nats-py lacks fields we need. Called by whoever starts the system, and after
every reconnect: a single server forgets what it held in memory when it restarts.
"""

from __future__ import annotations

from typing import Any

from shared.bus.connect import ApiError, Bus
from shared.errors import Transient
from shared.subjects import BUCKETS, CONSUMERS, STREAMS, Bucket, Consumer, Stream
from shared.subjects.permissions import GRANTS

_NANO = 1_000_000_000
BURIALS = 3
"""Deliveries beyond a consumer's last try: its reader only has to bury the message then."""
PIN_TIMEOUT = 3.0
"""Seconds without a pull after which another reader of a group may have the messages."""
_IN_USE = 10058
"""stream name already in use with a different configuration"""


def stream_config(row: Stream, replicas: int = 1) -> dict[str, Any]:
    """The server's configuration of a stream."""
    return {
        "name": row.name,
        "subjects": list(row.subjects),
        "storage": row.storage,
        "retention": row.retention,
        "max_age": int(row.max_age * _NANO),
        "max_bytes": row.max_bytes,
        "max_msgs_per_subject": row.max_per_subject,
        "duplicate_window": int(row.duplicate_window * _NANO),
        "num_replicas": replicas,
        "discard": "old",
        **row.extra,
    }


def consumer_config(row: Consumer) -> dict[str, Any]:
    """The server's configuration of a durable pull consumer."""
    pinned = {
        "priority_groups": [row.group],
        "priority_policy": "pinned_client",
        "priority_timeout": int(PIN_TIMEOUT * _NANO),
    }
    acknowledged = {
        "ack_wait": int(row.ack_wait * _NANO),
        "max_deliver": row.max_deliver if row.max_deliver < 0 else row.max_deliver + BURIALS,
        "max_ack_pending": row.max_ack_pending,
    }
    return {
        "durable_name": row.name,
        "filter_subjects": list(row.filters),
        "ack_policy": "explicit" if row.acks else "none",
        "mem_storage": row.memory,
        "inactive_threshold": int(row.inactive * _NANO),
        **(acknowledged if row.acks else {}),
        **(pinned if row.group else {}),
    }


def bucket_config(row: Bucket, replicas: int = 1) -> dict[str, Any]:
    """A key-value bucket is a stream with a convention (ADR-8 of the NATS project)."""
    return {
        "name": f"KV_{row.name}",
        "subjects": [f"$KV.{row.name}.>"],
        "storage": "memory" if row.memory else "file",
        "max_msgs_per_subject": row.history,
        "max_age": int(row.ttl * _NANO),
        "duplicate_window": int(min(row.ttl or 120.0, 120.0) * _NANO),
        "discard": "new",
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
        "num_replicas": replicas,
    }


async def ensure_stream(bus: Bus, config: dict[str, Any]) -> None:
    """Create a stream, or bring an existing one up to its row.

    What it takes from other sites is kept: the table knows of none (`shared.bus.sites`).
    """
    name = config["name"]
    try:
        await bus.api(f"STREAM.CREATE.{name}", config)
    except ApiError as error:
        if error.number != _IN_USE:
            raise
        known = (await bus.api(f"STREAM.INFO.{name}"))["config"]
        joined = {"sources": known["sources"]} if known.get("sources") else {}
        await bus.api(f"STREAM.UPDATE.{name}", {**joined, **config})


async def ensure_consumer(bus: Bus, row: Consumer, start: int = 0) -> None:
    """Create a durable consumer, or bring it up to its row. An existing one keeps its place.

    `start` is the first sequence to deliver, for a consumer that is new.
    """
    config = consumer_config(row)
    if start:
        config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": start}
    await bus.api(
        f"CONSUMER.CREATE.{row.stream}.{row.name}",
        {"stream_name": row.stream, "config": config, "action": ""},
    )


async def delete_consumer(bus: Bus, row: Consumer) -> None:
    """Remove a consumer; what it had not acknowledged becomes deliverable to its successor."""
    try:
        await bus.api(f"CONSUMER.DELETE.{row.stream}.{row.name}")
    except ApiError as error:
        if not error.missing:
            raise


async def ensure(bus: Bus) -> None:
    """Everything in the table, held by as many servers as the connection says.

    Consumers have as many replicas as their stream, those in memory too. Whoever may not make
    streams sees to it that the ones that it needs are there.

    Raises:
        Transient: `not_deployed`, `bus_unavailable`.
    """
    if not bus.login.deploys:
        await _check_deployed(bus)
        return
    replicas = bus.replicas
    for stream in STREAMS:
        await ensure_stream(bus, stream_config(stream, replicas))
    for bucket in BUCKETS:
        await ensure_stream(bus, bucket_config(bucket, replicas))
    for consumer in CONSUMERS:
        await ensure_consumer(bus, consumer)


async def _check_deployed(bus: Bus) -> None:
    for stream in GRANTS[bus.login.user].streams:
        try:
            await bus.api(f"STREAM.INFO.{stream}")
        except ApiError as error:
            if not error.missing:
                raise
            raise Transient(
                "not_deployed",
                f"there is no stream {stream} (yet): whoever has the operator's key makes it, "
                "with `python -m infra.nats topology`",
            ) from error
