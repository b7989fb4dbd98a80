"""Programs, their environment, and when they are restarted and stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.local import plan
from infra.local.plan import Program


def test_restart_delays_grow_and_are_bounded() -> None:
    delays = [plan.restart_delay(n) for n in range(1, 40)]
    assert delays[:4] == [0.2, 0.4, 0.8, 1.6]
    assert delays == sorted(delays)
    assert delays[-1] == 10.0


@pytest.mark.parametrize(("ran", "expected"), [(0.1, 4), (19.9, 4), (20.0, 1), (9_999.0, 1)])
def test_a_program_that_ran_long_enough_starts_counting_again(ran: float, expected: int) -> None:
    assert plan.failures_after(3, ran) == expected


def test_our_values_win_over_the_inherited_environment() -> None:
    env = plan.service_environment({"A": "1", "B": "2"}, {"B": "3"}, Path("/repo"))
    assert (env["A"], env["B"], env["PYTHONPATH"]) == ("1", "3", "/repo")
    assert env["PYTHONUNBUFFERED"] == "1"


def test_the_edge_stops_first_and_the_broker_last() -> None:
    programs = (Program("nats", ("x",), stage=2), *plan.service_programs("python", {}))
    stages = plan.stop_stages(programs)
    assert stages[0] == ["ingress"]
    assert stages[-1] == ["nats"]
    assert sorted(stages[1]) == ["inference", "ledger", "retrieval", "router", "sessions", "tools"]


def test_every_service_is_a_module_run_by_the_given_python() -> None:
    programs = {p.name: p.argv for p in plan.service_programs("/venv/python", {})}
    assert programs["router"] == ("/venv/python", "-m", "services.router")
    assert set(programs) == set(plan.SERVICES)


def test_exit_codes_in_words() -> None:
    assert plan.exit_reason(-9) == "killed by signal 9"
    assert plan.exit_reason(3) == "ended with code 3"
