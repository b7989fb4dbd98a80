"""The server agrees with the table of subjects: settings, transforms, republishing, schedules."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest
from nats.aio.msg import Msg

from shared import clock
from shared.bus import topology
from shared.bus.connect import ApiError, Bus
from shared.bus.log import RunLog
from shared.contracts.base import SessionRef, encode
from shared.contracts.facts import Cancelled
from shared.contracts.tasks import TaskSubmitted
from shared.subjects import (
    BUCKETS,
    CONSUMERS,
    STREAMS,
    Bucket,
    Consumer,
    Stream,
    feed_filter,
    fired_subject,
    parse_run,
    partition,
    session_filter,
    sessions_consumer,
    task_subject,
    timer_subject,
    tokens_subject,
)

pytestmark = pytest.mark.integration
REF = SessionRef("default", "s1")
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"


def holds(config: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """The settings that differ; a setting that is off is left out of the server's answer."""
    return {
        key: (value, config.get(key))
        for key, value in wanted.items()
        if value and config.get(key) != value and key not in ("subject_transform", "republish")
    }


@pytest.mark.parametrize("row", STREAMS, ids=lambda row: row.name)
async def test_a_stream_has_the_settings_of_its_row(bus: Bus, row: Stream) -> None:
    config = (await bus.api(f"STREAM.INFO.{row.name}"))["config"]
    assert holds(config, topology.stream_config(row)) == {}
    for key in ("subject_transform", "republish"):
        assert row.extra.get(key, {}).items() <= config.get(key, {}).items()


@pytest.mark.parametrize("row", BUCKETS, ids=lambda row: row.name)
async def test_a_bucket_has_the_settings_of_its_row(bus: Bus, row: Bucket) -> None:
    config = (await bus.api(f"STREAM.INFO.KV_{row.name}"))["config"]
    assert holds(config, topology.bucket_config(row)) == {}


@pytest.mark.parametrize("row", [*CONSUMERS, sessions_consumer(3)], ids=lambda row: row.name)
async def test_a_consumer_has_the_settings_of_its_row(bus: Bus, row: Consumer) -> None:
    await topology.ensure_consumer(bus, row)
    config = (await bus.api(f"CONSUMER.INFO.{row.stream}.{row.name}"))["config"]
    assert holds(config, topology.consumer_config(row)) == {}


async def test_ensuring_twice_changes_and_loses_nothing(bus: Bus) -> None:
    stored = await bus.publish("tasks.default.assistant.s1", b"{}")
    before = await bus.api("STREAM.INFO.RUNS")
    await topology.ensure(bus)
    after = await bus.api("STREAM.INFO.RUNS")
    assert after["config"] == before["config"]
    assert after["state"]["last_seq"] == stored.seq


async def test_a_stream_of_an_older_release_is_brought_up_to_its_row(bus: Bus) -> None:
    row = next(row for row in STREAMS if row.name == "DEAD")
    old = topology.stream_config(row) | {"max_age": 600_000_000_000}
    await bus.api("STREAM.UPDATE.DEAD", old)
    await topology.ensure(bus)
    config = (await bus.api("STREAM.INFO.DEAD"))["config"]
    assert config["max_age"] == timedelta(days=30).total_seconds() * 1e9


async def test_the_server_partitions_sessions_as_we_do(bus: Bus) -> None:
    names = random.Random(7)  # noqa: S311  # names, no secrets
    refs = [
        SessionRef(
            *(
                "".join(names.choices(LETTERS, k=names.randint(1, 64)))
                for _ in ("tenant", "session")
            )
        )
        for _ in range(200)
    ]
    body = encode(TaskSubmitted(input="x"))
    await asyncio.gather(
        *(bus.publish(f"tasks.{ref.tenant}.plain.{ref.session}", body) for ref in refs)
    )
    log = RunLog(bus)
    stored = await log.read_filter("run.>")
    assert sorted(fact.ref for fact in stored) == sorted(refs)
    for ref in refs[:20]:
        assert [fact.ref for fact in await log.read(ref)] == [ref]
    subjects = (await bus.api("STREAM.INFO.RUNS", {"subjects_filter": ">"}))["state"]["subjects"]
    wrong = [s for s in subjects if int(s.split(".")[1]) != _partition_of(s)]
    assert len(subjects) == len(set(refs))
    assert wrong == []


def _partition_of(subject: str) -> int:
    ref = parse_run(subject).ref
    return partition(ref.tenant, ref.session)


async def test_a_fact_is_republished_with_its_place(bus: Bus) -> None:
    subscription = await bus.nc.subscribe(feed_filter(session_filter(REF)))
    task = await bus.publish(task_subject(REF, "plain"), encode(TaskSubmitted(input="x")))
    second = await RunLog(bus).append(REF, Cancelled(task="t1"))
    messages = [await subscription.next_msg(5) for _ in range(2)]
    assert [sequence_of(one) for one in messages] == [task.seq, second.seq]
    assert all((one.headers or {})["Nats-Time-Stamp"] for one in messages)


async def test_a_delta_is_republished_and_needs_no_acknowledgement(bus: Bus) -> None:
    subscription = await bus.nc.subscribe(feed_filter(session_filter(REF)))
    await bus.send(tokens_subject(REF, "t1"), b"{}")
    message = await subscription.next_msg(5)
    assert message.subject == feed_filter(session_filter(REF))[:-1] + "delta.t1"
    assert sequence_of(message) > 0


def sequence_of(message: Msg) -> int:
    return int((message.headers or {})["Nats-Sequence"])


async def test_a_schedule_fires_once_and_is_gone(bus: Bus) -> None:
    at = clock.utc() + timedelta(seconds=0.3)
    headers = {
        "Nats-Schedule": f"@at {at.isoformat().replace('+00:00', 'Z')}",
        "Nats-Schedule-Target": fired_subject(REF, "t1", "watch"),
    }
    subject = timer_subject(REF, "t1", "watch")
    for _ in range(2):  # one subject is one schedule
        await bus.publish(subject, b"x", headers)
    pull = await bus.nc.jetstream().pull_subscribe_bind("timers", stream="TIMERS")
    message = (await pull.fetch(1, timeout=20))[0]
    assert message.subject == fired_subject(REF, "t1", "watch")
    assert clock.utc() >= at
    state = (await bus.api("STREAM.INFO.TIMERS"))["state"]
    assert state["messages"] == 1


async def test_a_refused_call_says_what_the_server_said(bus: Bus) -> None:
    with pytest.raises(ApiError) as refused:
        await bus.api("STREAM.INFO.NOTHING")
    assert refused.value.missing
    assert refused.value.number == 10059
