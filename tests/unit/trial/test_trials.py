"""What the trials start, and what they must not touch."""

from __future__ import annotations

import pytest

from infra.local.plan import SERVICES, read_replicas
from infra.trial.cluster import read_options, replicas
from infra.trial.running import neutral


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
