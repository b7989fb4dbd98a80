"""`millrace docs rebuild`: watched to its end, also over a restart of retrieval."""

from __future__ import annotations

import pytest

from services.cli.handlers import docs
from shared.contracts.retrieval import IndexState
from shared.errors import Transient
from tests.unit.cli.conftest import Cli

AWAY = Transient("no_responders", "nobody answers retrieval.state")


def index(watermark: int, remaining: int, chunks: int = 0) -> IndexState:
    return IndexState(watermark=watermark, remaining=remaining, chunks=chunks, newest=8)


FULL, EMPTY, DONE = index(8, 0, 5), index(0, 4), index(8, 0, 6)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs, "_PAUSE", 0.001)


def test_it_says_what_was_read_and_what_there_is_now(cli: Cli) -> None:
    cli.system.index = [FULL, EMPTY, index(3, 2, 3), DONE]
    outcome = cli("docs", "rebuild")
    assert (outcome.code, outcome.out) == (0, "4 documents read, 6 passages (before: 5)\n")


def test_as_json(cli: Cli) -> None:
    cli.system.index = [FULL, EMPTY, DONE]
    assert cli("docs", "rebuild", "--json").json() == {
        "documents": 4,
        "sequence": 8,
        "passages": {"before": 5, "after": 6},
    }


def test_retrieval_may_be_started_again_meanwhile(cli: Cli) -> None:
    cli.system.index = [FULL, EMPTY, AWAY, AWAY, index(1, 3), DONE]
    assert cli("docs", "rebuild").code == 0


def test_if_it_does_not_come_back_that_is_said(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs, "_PATIENCE", 0.003)
    cli.system.index = [FULL, EMPTY, AWAY]
    outcome = cli("docs", "rebuild")
    assert outcome.code == 1
    assert "millrace doctor" in outcome.err


def test_documents_that_come_meanwhile_are_not_waited_for(cli: Cli) -> None:
    cli.system.index = [FULL, EMPTY, IndexState(watermark=8, remaining=50, chunks=6, newest=58)]
    assert cli("docs", "rebuild").code == 0


def test_without_documents_there_is_nothing_to_wait_for(cli: Cli) -> None:
    """The last one was purged: nothing will ever reach its place."""
    cli.system.index = [FULL, index(0, 0)]
    assert "0 documents read" in cli("docs", "rebuild").out


def test_without_retrieval_nothing_is_built(cli: Cli) -> None:
    assert cli("docs", "rebuild").code == 1
