"""Recorded sessions: what their logs show is what the present code decides.

A loop may have been behind the log when it decided, so a decision has to follow from some
beginning of the log before the fact that came of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from services.sessions.core.replay import Replay
from shared.contracts.tasks import TaskSubmitted
from tests.contract.history_file import line_of, read_history, write_history

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.jsonl"))
each_history = pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)


def test_there_are_histories() -> None:
    assert HISTORIES


@each_history
def test_the_log_shows_what_is_decided_now(path: Path) -> None:
    replay = Replay(read_history(path))
    unexplained = [
        (stored.seq, stored.kind, stored.task)
        for n, stored in enumerate(replay.facts)
        if not replay.explains(n)
    ]
    assert not unexplained


@each_history
def test_every_task_has_its_end(path: Path) -> None:
    replay = Replay(read_history(path))
    final = replay.state(len(replay.facts))
    assert final.idle
    assert final.ended == {one.task for one in replay.facts if one.kind == "task"}


@each_history
def test_the_file_is_read_as_it_was_written(path: Path, tmp_path: Path) -> None:
    facts = read_history(path)
    write_history(tmp_path / "again.jsonl", facts)
    assert (tmp_path / "again.jsonl").read_bytes() == path.read_bytes()


def test_a_log_that_shows_something_else_is_noticed() -> None:
    """The check itself can fail: another sum, another order of steps, another end."""
    facts = read_history(next(path for path in HISTORIES if path.stem == "two-tools-by-hand"))
    whole = Replay(facts)
    assert all(whole.explains(n) for n in range(len(facts)))
    for n, stored in enumerate(facts):
        if isinstance(stored.fact, TaskSubmitted):
            continue
        without = Replay([*facts[: n - 1], *facts[n:]])
        assert not all(without.explains(k) for k in range(len(without.facts))), line_of(stored)
