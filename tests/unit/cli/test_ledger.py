"""`millrace usage` by several names, and `millrace ledger rebuild`."""

from __future__ import annotations

import pytest

from shared.contracts.facts import Usage
from shared.contracts.ledger import Latency, RebuildLedger, UsageReply, UsageSummary
from tests.unit.cli.conftest import Cli

ROW = UsageSummary(
    key="helper/nano",
    calls=2,
    usage=Usage(input=200, cached=128, output=20),
    price=3_000,
    names={"agent": "helper", "model": "nano"},
    latency=Latency(count=2, mean_ms=30.0, p50_ms=20.0, p95_ms=40.0, max_ms=40.0),
)
TOTAL = UsageSummary(key="total", calls=2, usage=ROW.usage, price=3_000)


@pytest.fixture
def used(cli: Cli) -> Cli:
    cli.system.used = UsageReply(rows=(ROW,), total=TOTAL, sequence=44)
    return cli


def test_usage_by_several_names(used: Cli) -> None:
    outcome = used("usage", "--by", "agent,model", "--model", "nano")
    assert outcome.code == 0
    assert {"helper", "nano", "200", "128"} <= set(outcome.out.split())
    (query,) = used.system.queries
    assert (query.keys, query.model) == (("agent", "model"), "nano")


def test_sums_that_are_too_low_are_said_to_be(used: Cli) -> None:
    assert "sums are too low" not in used("usage").err
    used.system.used = UsageReply(rows=(ROW,), total=TOTAL, sequence=44, rebuilding=True)
    assert "sums are too low" in used("usage").err
    assert used("usage", "--json").json()["rebuilding"]


def test_a_rebuild_that_gives_the_same_is_good(used: Cli) -> None:
    outcome = used("ledger", "rebuild")
    assert (outcome.code, used.system.rebuilds) == (0, [RebuildLedger()])
    assert "the same" in outcome.out
    assert {query.upto for query in used.system.queries} == {43}


@pytest.mark.parametrize("price", [2_999, 3_001])
def test_a_rebuild_that_gives_something_else_is_told(used: Cli, price: int) -> None:
    other = UsageSummary(key="total", calls=2, usage=ROW.usage, price=price)
    used.system.rebuilt = UsageReply(rows=(ROW,), total=other, sequence=45)
    outcome = used("ledger", "rebuild", "--forget")
    assert outcome.code == 1
    assert "not the same" in outcome.err
    assert used.system.rebuilds == [RebuildLedger(forget=True)]


def test_a_rebuild_as_json(used: Cli) -> None:
    told = used("ledger", "rebuild", "--json").json()
    assert (told["same"], told["sequence"]) == (True, 43)
    assert told["before"] == told["after"]


def test_without_a_ledger_there_is_nothing_to_rebuild(cli: Cli) -> None:
    assert cli("ledger", "rebuild").code == 1
