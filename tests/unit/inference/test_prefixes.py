"""The alarm over prompts that do not begin as the last one of their session did."""

from __future__ import annotations

import pytest

from services.inference.core.prefixes import PrefixWatch


@pytest.mark.parametrize(
    ("prompts", "broken"),
    [
        ([[1, 2], [1, 2, 3], [1, 2, 3, 4]], 0),
        ([[1, 2], [1, 2]], 0),  # tried again
        ([[1, 2, 3], [1, 2]], 0),  # somebody went back
        ([[1, 2, 3], [1, 9, 3, 4]], 1),
        ([[1, 2], [3], [1, 2]], 2),
        ([[256], [1]], 1),  # as bytes they begin alike: a token is four of them
    ],
)
def test_a_prompt_goes_on_from_the_last_one(prompts: list[list[int]], broken: int) -> None:
    watch = PrefixWatch()
    for prompt in prompts:
        watch.see("s", prompt)
    assert watch.broken == broken


def test_sessions_are_apart() -> None:
    watch = PrefixWatch()
    watch.see("a", [1])
    watch.see("b", [2])
    assert watch.broken == 0


def test_memory_is_bounded_and_the_oldest_is_forgotten() -> None:
    watch = PrefixWatch(most_bytes=24)
    for session in ("a", "b", "a", "c"):
        watch.see(session, [1, 2, 3])
    watch.see("a", [1, 2, 3, 4])
    assert watch.broken == 0
    watch.see("b", [9])  # forgotten, so nothing to compare with
    assert watch.broken == 0
    watch.see("big", range(100))
    watch.see("big", [7])
    assert watch.broken == 0
