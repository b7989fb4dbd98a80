"""What a model call brings along of the log."""

from __future__ import annotations

from services.sessions.core.recent import RecentFacts
from shared.contracts import facts as f
from shared.contracts.log import StoredFact
from shared.contracts.work import Recent
from tests.fakes.session_world import REF


def stored(seq: int, kind: str = "tool_done") -> StoredFact:
    fact = f.ToolDone(task="t1", step=seq, call="c", name="add", result=str(seq))
    return StoredFact(seq, 0.0, REF, kind, "", "t1", fact)


def brought(recent: Recent | None) -> tuple[int, list[int]] | None:
    return None if recent is None else (recent.after, [fact.seq for fact in recent.facts])


def test_a_call_brings_what_came_since_the_one_before_it() -> None:
    recent = RecentFacts()
    recent.start(0, [stored(1), stored(2)])
    assert brought(recent.upto(2)) == (0, [1, 2])
    recent.add(stored(3))
    recent.add(stored(5))
    assert brought(recent.upto(3)) == (2, [3])
    assert brought(recent.upto(5)) == (3, [5])


def test_nothing_is_brought_from_an_unknown_place() -> None:
    recent = RecentFacts()
    recent.add(stored(7))
    assert recent.upto(7) is None
    recent.add(stored(8))
    assert brought(recent.upto(8)) == (7, [8])


def test_only_what_a_transcript_shows_is_brought() -> None:
    recent = RecentFacts()
    recent.start(0, [stored(1, "infer_failed"), stored(2)])
    assert brought(recent.upto(2)) == (0, [2])


def test_too_much_is_left_to_the_log() -> None:
    recent = RecentFacts()
    recent.start(0, [stored(n) for n in range(1, 80)])
    assert recent.upto(100) is None


def test_what_was_let_go_of_behind_a_call_is_not_skipped_by_the_next_one() -> None:
    recent = RecentFacts()
    recent.start(None, [stored(1), stored(2), stored(3)])
    assert recent.upto(1) is None  # 2 and 3 are known to the state, but not kept here
    recent.add(stored(4))
    assert recent.upto(4) is None
    recent.add(stored(5))
    assert brought(recent.upto(5)) == (4, [5])
