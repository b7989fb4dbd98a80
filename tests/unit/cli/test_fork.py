"""`millrace fork` over a fake system."""

from __future__ import annotations

from tests.unit.cli.conftest import Cli


def test_a_fork_with_changes(cli: Cli) -> None:
    outcome = cli(
        *("fork", "s1", "--at", "t7.4", "--as", "f1", "--model", "deep", "--input", "again"),
        *("--result", "3=a=b", "--result", "2=x"),
    )
    assert outcome.code == 0
    assert outcome.out == "task t7 in session f1\n"
    [(session, order)] = cli.system.forked
    assert (session, order.task, order.step, order.route) == ("s1", "t7", 4, "deep")
    assert (order.input, order.results, order.by) == ("again", {"3": "a=b", "2": "x"}, "cli")


def test_a_fork_as_json(cli: Cli) -> None:
    assert cli("fork", "s1", "--at", "4", "--json").json() == {"session": "s9", "task": "t1"}


def test_a_wrong_place_and_a_wrong_result_are_wrong_usage(cli: Cli) -> None:
    assert cli("fork", "s1", "--at", "t1.x").code == 2
    assert cli("fork", "s1", "--at", "4", "--result", "x=y").code == 2
    assert cli("fork", "s1").code == 2
    assert not cli.system.forked
