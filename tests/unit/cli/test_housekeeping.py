"""`millrace dead` and `millrace sessions` over a fake system."""

from __future__ import annotations

import pytest

from shared.contracts.dead import DeadLetter
from shared.errors import Failure
from tests.fakes.housekeeping import filed
from tests.fakes.ledger_log import REF
from tests.unit.cli.conftest import Cli


@pytest.fixture(autouse=True)
def letters(cli: Cli) -> None:
    cli.system.house.letters_.found = [filed(1), filed(2, code="away"), filed(3, "acme")]


def test_letters_are_listed(cli: Cli) -> None:
    outcome = cli("dead", "ls")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert len(lines) == 3
    assert "engine_broken" in lines[1]
    assert "router" in lines[1]


def test_a_list_says_where_it_goes_on(cli: Cli) -> None:
    assert "--after 1" in cli("dead", "ls", "--limit", "1").err
    assert cli("dead", "ls", "--limit", "1", "--json").json()["next"] == 1


def test_letters_as_json_and_filtered(cli: Cli) -> None:
    found = cli("dead", "ls", "--json", "--where", "code=away").json()["letters"]
    assert [(one["id"], one["error"]["code"], one["session"]) for one in found] == [
        (2, "away", "s1")
    ]


def test_a_filter_that_is_none_is_wrong_usage(cli: Cli) -> None:
    for wrong in ("colour=red", "code", "code="):
        outcome = cli("dead", "ls", "--where", wrong)
        assert outcome.code == 2
        assert "session=..." in outcome.err


def test_everyone_is_more_than_the_tenant(cli: Cli) -> None:
    assert len(cli("dead", "ls", "--all", "--json").json()["letters"]) == 3


def test_no_letters(cli: Cli) -> None:
    cli.system.house.letters_.found = []
    outcome = cli("dead", "ls")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "no dead letters\n")


def test_a_letter_is_shown_with_its_tries_and_its_message(cli: Cli) -> None:
    out = cli("dead", "show", "1").out
    assert "try 39" in out
    assert "engine_broken: it broke" in out
    assert out.endswith('{"task": "t1"}\n')
    assert cli("dead", "show", "1", "--json").json()["body"] == '{"task": "t1"}'


def test_a_letter_without_its_message(cli: Cli) -> None:
    letter = DeadLetter(
        subject="", consumer="tools", error=Failure(code="terminated"), deliveries=1, body="",
        original="gone",
    )  # fmt: skip
    cli.system.house.letters_.found = [type(filed(1))(9, 1.0, "_", "", letter)]
    outcome = cli("dead", "show", "9", "--all")
    assert "the message is gone" in outcome.err
    refused = cli("dead", "retry", "9", "--all")
    assert refused.code == 1
    assert "original_gone" in refused.err


def test_letters_are_sent_again_once(cli: Cli) -> None:
    first = cli("dead", "retry", "1", "2", "--json")
    assert first.code == 0
    assert cli("dead", "retry", "1").out == "letter 1: now WORK 77\n"
    assert cli.system.house.letters_.sent == [(1, "cli"), (2, "cli")]
    assert "by cli" in cli("dead", "show", "1").out


def test_a_letter_of_somebody_else_does_not_exist(cli: Cli) -> None:
    outcome = cli("dead", "show", "3")
    assert outcome.code == 1
    assert "unknown_letter" in outcome.err


def test_a_session_is_deleted_after_a_question(cli: Cli) -> None:
    outcome = cli("sessions", "rm", REF.session)
    assert outcome.code == 0
    assert outcome.out == f"session {REF.session} is deleted\n"
    assert cli.terminal.questions == [f"Delete session {REF.session} for good?"]


def test_a_no_deletes_nothing(cli: Cli) -> None:
    cli.terminal.says_yes = False
    assert cli("sessions", "rm", REF.session).code == 1
    assert cli.system.house.sessions == set()


@pytest.mark.parametrize("arguments", [("--yes",), ("--json",)])
def test_nobody_is_asked(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert cli("sessions", "rm", REF.session, *arguments).code == 0
    assert cli.terminal.questions == []


def test_a_busy_session_is_refused_unless_forced(cli: Cli) -> None:
    cli.system.house.busy = {REF}
    refused = cli("sessions", "rm", REF.session, "--yes")
    assert refused.code == 1
    assert "session_busy" in refused.err
    assert cli("sessions", "rm", REF.session, "--yes", "--force", "--json").json()["complete"]


def test_a_deletion_that_goes_on(cli: Cli) -> None:
    cli.system.house.complete = False
    assert "as its work ends" in cli("sessions", "rm", REF.session, "--yes").out
