"""Schedules: tasks that are submitted at a time, at an interval or by cron.

A schedule is a message of stream TIMERS that the server itself fires (message schedules). What it
accepts and how it behaves over a restart was measured: decision record 0016.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from shared.contracts.base import Message, check_token
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Permanent

_NAMED = frozenset(
    f"@{name}"
    for name in ("yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly")
)
_ZONE = re.compile(r"[A-Za-z0-9_+/-]{1,64}")
_LAST_YEAR = 253_402_300_800.0
"""The year 10000, which RFC 3339 cannot write."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


class Schedule(Message, frozen=True):
    """What is submitted, and when: exactly one of `at` (epoch seconds), `every_s` and `cron`."""

    agent: str
    task: TaskSubmitted
    session: str = ""
    """Absent: a session of its own for each task."""
    at: float | None = None
    every_s: int | None = None
    cron: str = ""
    """Five fields, or six with the seconds first, or one of @hourly, @daily and so on."""
    zone: str = ""
    """The IANA time zone that `cron` is meant in; UTC by default."""
    key: str = ""
    """The id of the API key that made it, and pays for what it submits."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A schedule as it stands. Times are epoch seconds, 0 for what is not known.

    `next` is known for a time, and for the others once they have fired.
    """

    name: str
    schedule: Schedule
    sequence: int
    created: float
    last: float = 0.0
    next: float = 0.0


@dataclass(frozen=True, slots=True)
class Pattern:
    """A schedule in the server's words; without a zone for what is no cron expression."""

    text: str
    zone: str = ""


def pattern_of(schedule: Schedule, now: float) -> Pattern:
    """When the server has to fire.

    Raises:
        Permanent: `invalid_schedule` or `invalid_name`, naming the field.
    """
    _check_address(schedule)
    given = [name for name in ("at", "every_s") if getattr(schedule, name) is not None]
    given += ["cron"] if schedule.cron else []
    if len(given) != 1:
        raise _invalid("at", "give exactly one of at, every_s and cron")
    if schedule.zone and not schedule.cron:
        raise _invalid("zone", "a time zone goes with cron only")
    if schedule.at is not None:
        return Pattern(_at(schedule.at, now))
    if schedule.every_s is not None:
        return _every(schedule.every_s, now)
    return _cron(schedule.cron, schedule.zone)


def _check_address(schedule: Schedule) -> None:
    check_token(schedule.agent, "agent")
    if schedule.session:
        check_token(schedule.session, "session")
    if schedule.session.startswith("_"):
        raise Permanent("invalid_name", "names with a leading _ are reserved", field="session")


def _at(at: float, now: float) -> str:
    if not at < _LAST_YEAR:
        raise _invalid("at", f"{at:g} is no time in seconds")
    if at <= now:
        raise _invalid("at", f"{instant(at)} is past; it is {instant(now)}")
    return f"@at {instant(at)}"


def instant(time: float) -> str:
    """RFC 3339 with microseconds, in UTC."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _every(seconds: int, now: float) -> Pattern:
    """An interval that divides a minute, an hour or a day becomes cron, begun now.

    The server counts `@every` anew when it starts (measured), so a daily one would never fire
    on a machine that is switched off every night.
    """
    if seconds < 1:
        raise _invalid("every_s", "an interval has at least one second")
    start = datetime.fromtimestamp(now, UTC)
    second, minute, hour = start.second, start.minute, start.hour
    if _MINUTE % seconds == 0:
        return Pattern(f"{_steps(second, seconds, 60)} * * * * *", "UTC")
    if seconds % _MINUTE == 0 and _HOUR % seconds == 0:
        return Pattern(f"{second} {_steps(minute, seconds // _MINUTE, 60)} * * * *", "UTC")
    if seconds % _HOUR == 0 and _DAY % seconds == 0:
        return Pattern(f"{second} {minute} {_steps(hour, seconds // _HOUR, 24)} * * *", "UTC")
    return Pattern(f"@every {seconds}s")


def _steps(start: int, step: int, end: int) -> str:
    return "*" if step == 1 else ",".join(map(str, range(start % step, end, step)))


def _cron(text: str, zone: str) -> Pattern:
    """The server knows best what is a valid field; it wants the seconds first."""
    if zone and not _ZONE.fullmatch(zone):
        raise _invalid("zone", f"{zone[:80]!r} is no time zone, such as Europe/Berlin")
    fields = text.split()
    if len(fields) == 1 and text.strip() in _NAMED:
        return Pattern(fields[0], zone or "UTC")
    if len(fields) not in (5, 6) or not text.isascii() or "@" in text:
        raise _invalid("cron", f"{text[:80]!r} has not the five fields of cron (or six, or @daily)")
    return Pattern(" ".join(["0", *fields][-6:]), zone or "UTC")


def _invalid(field: str, detail: str) -> Permanent:
    return Permanent("invalid_schedule", detail, field=field)
