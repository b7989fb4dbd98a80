"""When a schedule fires, in the server's words, and what is refused before it sees it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.schedules import Pattern, Schedule, pattern_of
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Permanent
from shared.subjects import (
    STREAMS,
    TIMERS,
    due_subject,
    fired_subject,
    parse_due,
    schedule_subject,
)
from tests.fakes.session_world import REF

NOW = datetime(2026, 3, 4, 13, 37, 41, 250_000, UTC).timestamp()
TASK = TaskSubmitted(input="Anything new?")


def schedule(**when: object) -> Schedule:
    return Schedule(**{"agent": "helper", "task": TASK, **when})  # type: ignore[arg-type]  # tests also give what is wrong


@pytest.mark.parametrize(
    ("when", "pattern"),
    [
        ({"at": NOW + 1.5}, Pattern("@at 2026-03-04T13:37:42.750000Z")),
        ({"every_s": 1}, Pattern("* * * * * *", "UTC")),
        ({"every_s": 20}, Pattern("1,21,41 * * * * *", "UTC")),
        ({"every_s": 60}, Pattern("41 * * * * *", "UTC")),
        ({"every_s": 900}, Pattern("41 7,22,37,52 * * * *", "UTC")),
        ({"every_s": 3600}, Pattern("41 37 * * * *", "UTC")),
        ({"every_s": 6 * 3600}, Pattern("41 37 1,7,13,19 * * *", "UTC")),
        ({"every_s": 86_400}, Pattern("41 37 13 * * *", "UTC")),
        ({"every_s": 90}, Pattern("@every 90s")),
        ({"every_s": 7 * 3600}, Pattern("@every 25200s")),
        ({"every_s": 2 * 86_400}, Pattern("@every 172800s")),
        ({"cron": "0 8 * * MON-FRI"}, Pattern("0 0 8 * * MON-FRI", "UTC")),
        ({"cron": " 30 0  8 * * * "}, Pattern("30 0 8 * * *", "UTC")),
        ({"cron": "@daily", "zone": "Europe/Berlin"}, Pattern("@daily", "Europe/Berlin")),
    ],
)
def test_when_it_fires(when: dict[str, object], pattern: Pattern) -> None:
    assert pattern_of(schedule(**when), NOW) == pattern


@pytest.mark.parametrize(
    ("when", "field"),
    [
        ({}, "at"),
        ({"at": NOW + 9, "every_s": 9}, "at"),
        ({"at": NOW}, "at"),
        ({"at": NOW - 100}, "at"),
        ({"at": float("nan")}, "at"),
        ({"at": 1e15}, "at"),
        ({"every_s": 0}, "every_s"),
        ({"every_s": -5}, "every_s"),
        ({"cron": "hello"}, "cron"),
        ({"cron": "* * *"}, "cron"),
        ({"cron": "@every 5s"}, "cron"),
        ({"cron": "@reboot"}, "cron"),
        ({"cron": "0 8 * * ä"}, "cron"),
        ({"every_s": 5, "zone": "UTC"}, "zone"),
        ({"cron": "@daily", "zone": "Europe/Berlin\r\nX: y"}, "zone"),
    ],
)
def test_what_is_no_schedule_names_the_field(when: dict[str, object], field: str) -> None:
    with pytest.raises(Permanent) as refused:
        pattern_of(schedule(**when), NOW)
    assert (refused.value.code, refused.value.field) == ("invalid_schedule", field)


@pytest.mark.parametrize(("name", "value"), [("agent", "a.b"), ("session", "*"), ("session", "_x")])
def test_agent_and_session_are_names(name: str, value: str) -> None:
    with pytest.raises(Permanent) as refused:
        pattern_of(schedule(every_s=9, **{name: value}), NOW)
    assert (refused.value.code, refused.value.field) == ("invalid_name", name)


@given(st.text())
def test_no_cron_expression_can_smuggle_a_header(text: str) -> None:
    try:
        pattern = pattern_of(schedule(cron=text), NOW)
    except Permanent:
        return
    assert pattern.text.isprintable()


def test_a_schedule_has_one_subject_whatever_its_session() -> None:
    subject = schedule_subject("acme", "report")
    assert subject.split(".")[2:] == ["acme", "_schedules", "report", "schedule"]
    assert parse_due(due_subject("acme", "report")) == ("acme", "report")
    assert parse_due(fired_subject(REF, "t1", "deadline")) is None
    assert parse_due("fired.x") is None
    with pytest.raises(Permanent, match="invalid_name"):
        schedule_subject("a.b", "report")


def test_the_stream_of_schedules_forgets_nothing_by_age() -> None:
    """Its `max_age` would take them too, at the latest when the server restarts (ADR 0016)."""
    assert [stream.max_age for stream in STREAMS if stream.name == TIMERS] == [0.0]
