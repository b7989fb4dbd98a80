"""What is forgotten of a conversation that is too long: the oldest first, and never half a call."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from services.inference.core.forgetting import forgettable, moved, without

SYSTEM = {"role": "system", "content": "S"}
TURNS = st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=5)
"""Of each turn: its answers, by the number of their calls."""


def conversation(turns: Sequence[Sequence[int]], systems: int = 1) -> list[dict[str, object]]:
    found: list[dict[str, object]] = [SYSTEM] * systems
    for number, answers in enumerate(turns):
        found.append({"role": "user", "content": f"u{number}"})
        for place, calls in enumerate(answers):
            names = [f"c{number}.{place}.{n}" for n in range(calls)]
            found.append({"role": "assistant", "tool_calls": names})
            found += [{"role": "tool", "tool_call_id": name} for name in names]
    return found


def test_turns_go_first_then_the_exchanges_of_the_last_one() -> None:
    talk = conversation([[1], [], [1, 2, 0]])
    assert forgettable(talk) == [range(1, 4), range(4, 5), range(6, 8), range(8, 11)]
    assert without(talk, forgettable(talk)) == [SYSTEM, talk[5], talk[11]]


def test_nothing_may_go_of_a_single_question() -> None:
    assert forgettable(conversation([[]])) == []
    assert forgettable(conversation([[2]])) == []
    assert forgettable([SYSTEM]) == []
    assert forgettable([]) == []


def test_an_answer_before_the_first_question_goes_like_a_turn() -> None:
    talk = [SYSTEM, {"role": "assistant", "content": "Hi!"}, *conversation([[]], systems=0)]
    assert forgettable(talk) == [range(1, 2)]


@given(TURNS, st.integers(0, 2), st.integers(0, 30))
def test_what_is_left_begins_and_ends_alike_and_is_balanced(
    turns: list[list[int]], systems: int, count: int
) -> None:
    talk = conversation(turns, systems)
    parts = forgettable(talk)
    left = without(talk, parts[:count])
    assert left[:systems] == talk[:systems]
    assert left[-1:] == talk[-1:]
    if turns:
        assert {"role": "user", "content": f"u{len(turns) - 1}"} in left
    made = [name for one in left for name in one.get("tool_calls", ())]  # type: ignore[attr-defined]
    assert made == [one["tool_call_id"] for one in left if one["role"] == "tool"]
    assert len(left) + sum(len(part) for part in parts[:count]) == len(talk)


def test_what_is_known_of_messages_moves_with_them() -> None:
    messages = [
        {"role": role, "content": str(n)}
        for n, role in enumerate(("system", "user", "assistant", "user", "assistant", "tool"))
    ]
    parts = [range(1, 3)]
    thoughts = {2: "of 2", 4: "of 4"}
    left = without(messages, parts)
    assert [left[place]["content"] for place in moved(thoughts, parts)] == ["4"]
    assert moved(thoughts, parts) == {2: "of 4"}
    assert moved(thoughts, []) == thoughts
