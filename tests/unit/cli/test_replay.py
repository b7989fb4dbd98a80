"""`millrace replay`: each fact beside the decisions, one place, and the check of one or all."""

from __future__ import annotations

import pytest

from shared.contracts.base import SessionRef
from tests.fakes.ledger_log import Recorder, inferred
from tests.unit.cli.conftest import Cli


def test_each_fact_stands_beside_what_is_decided(cli: Cli) -> None:
    outcome = cli("replay", "s1")
    lines = outcome.out.splitlines()
    assert (outcome.code, len(lines)) == (0, 6)
    assert "→ task" in lines[0]
    assert "Accepted/t1/" in lines[0]
    assert "✔ inferred     t1.0  since 2  ⇒ work/t1.1" in lines[2]
    rows = [line for line in cli("replay", "s1", "--json").out.splitlines() if line]
    assert len(rows) == 6


def test_one_place_of_the_log(cli: Cli) -> None:
    outcome = cli("replay", "s1", "--at", "3")
    assert outcome.code == 0
    assert "due: work/t1.1" in outcome.out
    found = cli("replay", "s1", "--at", "3", "--json").json()
    assert found["state"]["running"]["pending"][0]["step"] == 1
    assert found["fact"]["seq"] == 3


def test_a_log_that_follows_from_itself(cli: Cli) -> None:
    assert cli("replay", "s1", "--check").out == "session s1: 6 facts, no difference\n"
    assert cli("replay", "s1", "--check", "--json").json()["ok"] is True


@pytest.fixture
def foreign(recorded: Recorder) -> None:
    """A step that nobody asked for, in another session."""
    ref = SessionRef("default", "s2")
    recorded.submit("u1", 5.0, ref)
    recorded.add(inferred("u1", 4), 5.1, ref=ref)


@pytest.mark.usefixtures("foreign")
def test_the_first_difference_fails_the_check(cli: Cli) -> None:
    outcome = cli("replay", "s2", "--check")
    assert outcome.code == 1
    assert "session s2 differs:" in outcome.out
    assert "✗ inferred     u1.4  instead: Accepted/u1/" in outcome.out
    found = cli("replay", "s2", "--check", "--json").json()
    assert (found["ok"], found["check"]["difference"]["step"]) == (False, 4)
    assert cli("replay", "s2").code == 1


@pytest.mark.usefixtures("foreign")
def test_all_sessions_are_checked_whatever_the_first_one_says(cli: Cli) -> None:
    outcome = cli("replay", "--all", "--check")
    assert outcome.code == 1
    assert "2 sessions, 8 facts, 1 difference" in outcome.out
    found = cli("replay", "--all", "--json").json()
    assert (found["sessions"], found["ok"], list(found["differences"])) == (2, False, ["s2"])


def test_all_sessions_without_a_difference(cli: Cli) -> None:
    outcome = cli("replay", "--all", "--check")
    assert (outcome.code, outcome.out) == (0, "1 session, 6 facts, no difference\n")


@pytest.mark.parametrize("words", [(), ("s1", "--all"), ("--all", "--at", "3")])
def test_which_session_must_be_clear(cli: Cli, words: tuple[str, ...]) -> None:
    assert cli("replay", *words).code == 2


def test_a_session_that_is_not_there(cli: Cli) -> None:
    outcome = cli("replay", "s9", "--check")
    assert (outcome.code, "unknown_session" in outcome.err) == (1, True)
