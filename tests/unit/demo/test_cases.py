"""How the demo judges an answer, and that its questions have answers in the handbook."""

from __future__ import annotations

import pytest

from infra.demo.cases import (
    CALCULATE,
    CASES,
    HANDBOOK,
    Case,
    Expected,
    calls_at_once,
    faults,
    mentions,
)
from shared.contracts.base import SessionRef
from shared.contracts.facts import Done, Inferred, ToolCall
from shared.contracts.log import StoredFact
from shared.timeline import Row, Timeline

REF = SessionRef("default", "s1")


def stored(fact: Done | Inferred) -> StoredFact:
    return StoredFact(1, 0.0, REF, "x", "", "t", fact)


def line(output: str, *tools: str, status: str = "completed") -> Timeline:
    rows = tuple(Row(n, "tool", name, "ok", 0.0, 0.1) for n, name in enumerate(tools))
    return Timeline("t", REF, "assistant", status, rows=rows, output=output)  # type: ignore[arg-type]  # any status


def case(expected: Expected) -> Case:
    return Case("x", "nats", "?", expected, "a")


END = [stored(Done(task="t", status="completed"))]


@pytest.mark.parametrize(
    ("answer", "text", "there"),
    [
        ("17 * 23 = 391.", "391", True),
        ("1391 or 3910", "391", False),
        ("It is 39.1 or 391.5", "391", False),
        ("17 * 2300 = 39,100.", "39100", True),
        ("Division by zero.", "division by zero", True),
        ("It is 2026-01-01 10:00 in Asia/Tokyo.", "Asia/Tokyo", True),
        ("", "5", False),
    ],
)
def test_a_text_must_stand_in_the_answer_as_a_whole(answer: str, text: str, there: bool) -> None:
    assert mentions(answer, text) is there


def test_the_right_end_has_no_faults() -> None:
    want = case(Expected(("391",), (CALCULATE,)))
    assert faults(want, line("17 * 23 = 391.", CALCULATE), END) == []


@pytest.mark.parametrize(
    ("expected", "seen", "fault"),
    [
        (Expected(("391",)), line("390"), "lacks '391'"),
        (Expected(source="travel.md"), line("140 euros"), "travel.md"),
        (Expected(tools=(CALCULATE,)), line("391"), "no tool"),
        (Expected(), line("391", CALCULATE), "not none"),
        (Expected(tools=(CALCULATE,)), line("x", CALCULATE, CALCULATE), "not \\['calculator'\\]"),
        (Expected(), line("x", status="failed"), "failed, not completed"),
        (Expected(together=2), line("x"), "together"),
    ],
)
def test_each_wrong_thing_is_named(expected: Expected, seen: Timeline, fault: str) -> None:
    found = faults(case(expected), seen, END)
    assert len(found) == 1
    assert fault.replace("\\", "") in found[0]


@pytest.mark.parametrize("count", [0, 2])
def test_a_task_ends_exactly_once(count: int) -> None:
    assert faults(case(Expected()), line("x"), END * count) == [f"it ended {count} times"]


def test_calls_count_as_together_only_in_one_answer() -> None:
    call = ToolCall(id="1", name="x", arguments="{}")
    one = stored(Inferred(task="t", step=0, tool_calls=(call,)))
    two = stored(Inferred(task="t", step=0, tool_calls=(call, call)))
    assert calls_at_once([one, one]) == 1
    assert calls_at_once([one, two]) == 2
    assert calls_at_once([]) == 0


def test_every_expected_source_is_a_page_that_states_the_first_number() -> None:
    sourced = [one for one in CASES if one.expected.source]
    assert len(sourced) >= 4
    for one in sourced:
        assert one.expected.texts[0] in (HANDBOOK / one.expected.source).read_text()


def test_the_demo_covers_every_way_in_and_ten_pages() -> None:
    assert {one.way for one in CASES} == {"nats", "http", "openai", "client"}
    assert len(CASES) >= 12
    assert len(list(HANDBOOK.glob("*.md"))) == 10
