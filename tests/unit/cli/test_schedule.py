"""`millrace schedule`: what is stored, how it is listed, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.cli.core.when import instant_of, seconds_of
from services.cli.handlers.schedule import when_text
from shared.contracts.agents import LimitsPatch
from shared.contracts.schedules import Schedule
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Permanent
from tests.fakes.cli_system import NOW
from tests.unit.cli.conftest import Cli

ADD = ("schedule", "add", "report", "Anything new?")


def test_an_interval_with_everything(cli: Cli) -> None:
    options = ("--agent", "helper", "--session", "s1", "--on-busy", "reject", "--limits", "steps=3")
    assert cli(*ADD, "--every", "1h30m", *options).out == "schedule report: every 90 m 00 s\n"
    kept = cli.system.schedules.kept["report"].schedule
    task = TaskSubmitted(input="Anything new?", limits=LimitsPatch(max_steps=3), on_busy="reject")
    assert kept == Schedule(agent="helper", task=task, session="s1", every_s=5400)


def test_a_time_and_cron(cli: Cli) -> None:
    assert cli(*ADD, "--at", "+15m", "--json").json()["schedule"]["at"] == NOW + 900
    outcome = cli(*ADD, "--cron", "0 8 * * MON-FRI", "--zone", "Europe/Berlin")
    assert outcome.out == "schedule report: 0 8 * * MON-FRI (Europe/Berlin)\n"
    assert len(cli.system.schedules.kept) == 1


def test_the_list_and_the_end(cli: Cli) -> None:
    assert "no schedules" in cli("schedule", "ls").err
    cli(*ADD, "--every", "90s")
    text = cli("schedule", "ls").out
    assert "every 90.0 s" in text
    assert "(new)" in text
    assert "never" in text
    assert cli("schedule", "ls", "--json").json()[0]["name"] == "report"
    assert cli("schedule", "rm", "report", "--json").json() == {"removed": "report"}
    outcome = cli("schedule", "rm", "report")
    assert (outcome.code, "unknown_schedule" in outcome.err) == (1, True)


@pytest.mark.parametrize(
    "when",
    [
        (),
        ("--every", "90s", "--at", "+1m"),
        ("--every", "soon"),
        ("--every", "0s"),
        ("--at", "yesterday"),
        ("--at", "2020-01-01T00:00Z"),
        ("--cron", "hello"),
        ("--every", "90s", "--zone", "UTC"),
        ("--every", "90s", "--session", "a.b"),
        ("--every", "90s", "--limits", "steps=x"),
    ],
)
def test_what_is_no_schedule_is_wrong_usage(cli: Cli, when: tuple[str, ...]) -> None:
    outcome = cli(*ADD, *when)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert not cli.system.schedules.kept


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("1h30m", 5400), ("1d", 86_400), ("2d1h", 176_400), (" 1s ", 1)],
)
def test_lengths_of_time(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "5", "-5s", "1s2m", "1.5h", "5 m"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(Permanent) as refused:
        seconds_of(text)
    assert (refused.value.code, refused.value.field) == ("invalid_schedule", "every")


def test_points_in_time() -> None:
    noon = datetime(2026, 12, 24, 12, tzinfo=UTC)
    assert instant_of("2026-12-24T12:00Z", 0) == noon.timestamp()
    assert instant_of("2026-12-24T13:00+01:00", 0) == noon.timestamp()
    local = datetime(2026, 12, 24, 12).astimezone().timestamp()  # the reader's own
    assert instant_of("2026-12-24 12:00", 0) == local
    assert instant_of("+90s", 1000.0) == 1090.0
    for wrong in ("+", "tomorrow", "9999-99-99", "0001-01-01"):
        with pytest.raises(Permanent, match="invalid_schedule"):
            instant_of(wrong, 0)


def test_when_reads_well() -> None:
    task = TaskSubmitted(input="x")
    assert when_text(Schedule(agent="a", task=task, cron="@daily")) == "@daily (UTC)"
    assert when_text(Schedule(agent="a", task=task, at=NOW)).startswith("at 20")
