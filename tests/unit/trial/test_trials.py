"""What the trials start, and what they must not touch."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.local.plan import SERVICES, read_replicas
from infra.trial.cluster import read_options, replicas
from infra.trial.running import check_refusals, neutral
from shared.errors import Broken


def test_a_cluster_has_two_of_each_service_but_for_the_index() -> None:
    counts = read_replicas(replicas(sqlite=False))
    assert {name: counts.get(name, 1) for name in SERVICES} == {
        **dict.fromkeys(SERVICES, 2),
        "retrieval": 1,
    }


def test_a_sqlite_is_not_shared() -> None:
    assert "ledger" not in read_replicas(replicas(sqlite=True))


def test_another_system_that_the_environment_points_to_is_left_alone() -> None:
    pointing = {"MILLRACE_NATS_URL": "nats://prod", "MILLRACE_DATABASE_URL": "postgresql://prod"}
    kept = {"PATH": "/bin", "MILLRACE_LOG_LEVEL": "debug"}
    assert neutral({**pointing, **kept}) == kept


@pytest.mark.parametrize("option", ["--sqlite", "--stay"])
def test_options_are_off_by_default(option: str) -> None:
    name = option.strip("-")
    assert getattr(read_options([]), name) is False
    assert getattr(read_options([option]), name) is True


def test_what_the_bus_refused_a_service_ends_the_trial(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "tools.log").write_text("event=service.started\n")
    check_refusals([tmp_path])
    (logs / "router.log.1").write_text("event=bus.permission_denied subject=run.x\n")
    with pytest.raises(Broken, match=r"router\.log\.1: .*run\.x"):
        check_refusals([tmp_path])
