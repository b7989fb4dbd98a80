"""Where streams are, from what the server answers."""

from __future__ import annotations

from typing import Any

import pytest

from infra.local.plan import SERVICES
from infra.trial.placement import NAMES, Held, held, impostors
from shared.subjects import BUCKETS, STREAMS


def info(*others: dict[str, Any], leader: str = "nats-1") -> dict[str, Any]:
    return {
        "config": {"num_replicas": 3},
        "cluster": {"leader": leader, "replicas": list(others)},
    }


CURRENT, BEHIND = {"name": "b", "current": True}, {"name": "c", "current": False, "lag": 4}
OFFLINE = {"name": "c", "current": True, "offline": True}


def test_a_stream_that_all_three_hold_is_whole() -> None:
    assert held(info(CURRENT, CURRENT)) == Held("nats-1", 3, 3)
    assert held(info(CURRENT, CURRENT)).whole


@pytest.mark.parametrize(
    "answer", [info(CURRENT, BEHIND), info(CURRENT, OFFLINE), info(CURRENT, CURRENT, leader="")]
)
def test_one_that_is_behind_away_or_without_a_leader_is_not(answer: dict[str, Any]) -> None:
    assert not held(answer).whole


def test_a_single_server_leads_nothing() -> None:
    assert held({"config": {"num_replicas": 1}}) == Held("", 1, 0)


def test_every_stream_and_bucket_is_looked_at() -> None:
    assert len(NAMES) == len(STREAMS) + len(BUCKETS)


KEYS = {name: f"U-{name}" for name in SERVICES}


def connected(**users: str) -> list[dict[str, Any]]:
    """Every service as itself, but for those that are given."""
    return [{"name": name, "authorized_user": users.get(name, KEYS[name])} for name in SERVICES]


def test_every_service_is_connected_as_itself() -> None:
    client = {"name": "trial", "authorized_user": "U-admin"}
    assert impostors([*connected(), client, {"cid": 3}], KEYS) == []


def test_one_that_has_another_ones_key_is_found_out() -> None:
    (fault,) = impostors([*connected(), *connected(tools="U-admin")], KEYS)
    assert fault == "tools is connected, and not as its own user"


def test_one_that_is_not_there_is_found_out() -> None:
    rest = [one for one in connected() if one["name"] != "ledger"]
    assert impostors(rest, KEYS) == ["ledger is not connected"]
