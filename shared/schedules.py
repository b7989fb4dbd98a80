"""The client's side of schedules: put, look, remove. Stream TIMERS is where they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import batched

from shared import clock
from shared.bus.connect import Bus
from shared.bus.kv import Entry, KeyValue
from shared.bus.log import direct_get, parse_time
from shared.bus.repeat import until_acknowledged
from shared.clock import mint_id
from shared.contracts.base import check_token, decode, encode
from shared.contracts.log import MSG_ID
from shared.contracts.schedules import Schedule, Scheduled, pattern_of
from shared.errors import Permanent
from shared.subjects import FIRED_FOR, TIMERS, due_subject, schedule_subject

_AT_ONCE = 500
"""Subjects in one question; the server refuses to answer with more than 1,024 messages."""


class Schedules:
    """The schedules of a tenant."""

    def __init__(self, bus: Bus, tenant: str) -> None:
        self._bus, self._tenant = bus, tenant
        self._stream = KeyValue.over(bus, TIMERS)

    async def put(self, name: str, schedule: Schedule) -> int:
        """Store a schedule in the place of the one with that name; answers its sequence.

        Raises:
            Permanent: `invalid_schedule`, `invalid_name`, `payload_too_large`.
            Transient: `bus_unavailable`.
        """
        pattern = pattern_of(schedule, clock.now())
        headers = {
            "Nats-Schedule": pattern.text,
            "Nats-Schedule-Target": due_subject(self._tenant, check_token(name, "name")),
            "Nats-Schedule-TTL": FIRED_FOR,
            MSG_ID: mint_id("put"),
        }
        if pattern.zone:
            headers["Nats-Schedule-Time-Zone"] = pattern.zone
        subject = schedule_subject(self._tenant, name)
        try:
            ack = await until_acknowledged(
                lambda: self._bus.publish(subject, encode(schedule), headers)
            )
        except Permanent as error:
            if error.code != "publish_refused":
                raise
            raise _refused(schedule, error) from error
        return ack.seq

    async def get(self, name: str) -> Scheduled:
        """A schedule; one for a single time is gone once it has fired.

        Raises:
            Permanent: `unknown_schedule`.
        """
        entry = await self._stream.get(schedule_subject(self._tenant, check_token(name, "name")))
        if entry is None:
            raise _unknown(name)
        return (await self._with_times([entry]))[0]

    async def list(self) -> Sequence[Scheduled]:
        """All of them, by name."""
        entries = await self._stream.entries(schedule_subject(self._tenant, "*"))
        return sorted(await self._with_times(entries), key=lambda one: one.name)

    async def delete(self, name: str) -> None:
        """Remove a schedule; what it has submitted goes on.

        Raises:
            Permanent: `unknown_schedule`.
        """
        subject = schedule_subject(self._tenant, check_token(name, "name"))
        answer = await self._bus.api(f"STREAM.PURGE.{TIMERS}", {"filter": subject})
        if not answer["purged"]:
            raise _unknown(name)

    async def _with_times(self, entries: Sequence[Entry]) -> Sequence[Scheduled]:
        names = [entry.key.split(".")[4] for entry in entries]
        fired = await self._fired(names)
        found: list[Scheduled] = []
        for name, entry in zip(names, entries, strict=True):
            schedule = decode(entry.value, Schedule)
            last, following = fired.get(name, (0.0, 0.0))
            if last < entry.time:  # of the schedule that had this name before
                last, following = 0.0, 0.0
            following = schedule.at or following
            found.append(Scheduled(name, schedule, entry.revision, entry.time, last, following))
        return found

    async def _fired(self, names: Sequence[str]) -> dict[str, tuple[float, float]]:
        """When each has fired and when it will, as the last message of each says."""
        found: dict[str, tuple[float, float]] = {}
        for some in batched(names, _AT_ONCE):
            query = {"multi_last": [due_subject(self._tenant, name) for name in some]}
            messages, _ = await direct_get(self._bus, f"$JS.API.DIRECT.GET.{TIMERS}", query)
            for message in messages:
                headers = message.headers or {}
                last = parse_time(headers["Nats-Time-Stamp"])
                following = _next_of(headers.get("Nats-Schedule-Next", ""))
                found[headers["Nats-Subject"].split(".")[4]] = (last, following)
        return found


def _next_of(text: str) -> float:
    """The server names the next time with an offset, or says that there is none (`purge`)."""
    return datetime.fromisoformat(text).timestamp() if text[:1].isdigit() else 0.0


def _refused(schedule: Schedule, error: Permanent) -> Permanent:
    if "time zone" in error.detail:
        detail = f"the server does not know the time zone {schedule.zone!r}"
        return Permanent("invalid_schedule", detail, field="zone")
    field = "cron" if schedule.cron else "every_s" if schedule.every_s is not None else "at"
    detail = f"the server cannot make a schedule of it: {getattr(schedule, field)!r}"
    return Permanent("invalid_schedule", detail, field=field)


def _unknown(name: str) -> Permanent:
    return Permanent("unknown_schedule", f"there is no schedule {name!r}", field="name")
