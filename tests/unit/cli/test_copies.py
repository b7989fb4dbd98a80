"""`show` and `logs` at a hub: what ran at a site can be looked at, and is said to be a copy."""

from __future__ import annotations

import pytest

from shared.contracts.ledger import TasksReply, TaskSummary
from tests.unit.cli.conftest import Cli


@pytest.fixture
def hub(cli: Cli) -> Cli:
    """Everything that the fake system knows ran at the site `edge`."""
    cli.system.copies = {("edge", "s1"): cli.system.facts}
    cli.system.facts = []
    return cli


def test_a_task_that_is_not_ours_is_looked_for_among_the_copies(hub: Cli) -> None:
    outcome = hub("show", "t1")
    assert outcome.code == 0
    assert "t1  completed" in outcome.out
    assert "ran at edge" in outcome.err


def test_the_ledger_of_a_hub_knows_the_task_and_its_log_does_not(hub: Cli) -> None:
    row = TaskSummary(
        task="t1", session="s1", agent="assistant", status="completed", sequence=7, submitted=1.0
    )
    hub.system.ledger = TasksReply(tasks=(row,))
    outcome = hub("show", "t1")
    assert outcome.code == 0
    assert "ran at edge" in outcome.err


def test_a_session_of_a_site_can_be_named(hub: Cli) -> None:
    found = hub("show", "t1", "--site", "edge", "--session", "s1", "--json").json()
    assert found["timeline"]["status"] == "completed"
    assert hub("show", "t1", "--site", "edge").code == 0


def test_our_own_task_goes_before_a_copy(cli: Cli) -> None:
    cli.system.copies = {("edge", "s1"): cli.system.facts}
    assert "edge" not in cli("show", "t1").err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "t9"), "no task 't9' is known;"),
        (("show", "t1", "--site", "other"), "at other"),
        (("show", "t9", "--site", "edge", "--session", "s1"), "session s1 has no task t9"),
    ],
)
def test_what_nobody_has_is_said(hub: Cli, arguments: tuple[str, ...], said: str) -> None:
    outcome = hub(*arguments)
    assert (outcome.code, said in outcome.err) == (1, True), outcome.err


def test_the_log_of_a_copy(hub: Cli) -> None:
    outcome = hub("logs", "s1", "--site", "edge")
    assert "accepted" in outcome.out
    assert "no facts here" in hub("logs", "s1").err


def test_a_copy_is_not_followed(hub: Cli) -> None:
    assert hub("logs", "s1", "--site", "edge", "--follow").code == 2
