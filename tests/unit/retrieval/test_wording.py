"""Which words of a text mean something, and a text without some of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.retrieval.core.wording import topic, without, words


def test_small_words_mean_nothing_and_endings_are_no_difference() -> None:
    assert words("What is the limit?") == words("limits") == {"limit"}
    assert words("The desk is reached") == words("reach a desk")


def test_a_topic_is_what_the_question_and_more_than_one_text_name() -> None:
    texts = ["Sick leave is paid.", "Call about sick leave.", "Tea is paid by hand."]
    assert topic("When is sick leave paid?", texts) == words("sick leave paid")
    assert topic("When is sick leave paid?", texts[:1]) == set()


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("When is sick leave paid?", "When is it paid?"),
        ("The sick leave, however, is paid.", "it, however, is paid."),
        ("Leave (sick): our leave.", "it (it): it."),
        ("Leaves fall.", "it fall."),
        ("Nothing of that.", "Nothing of that."),
        ("", ""),
    ],
)
def test_a_topic_becomes_it(text: str, bare: str) -> None:
    assert without(text, words("sick leave")) == bare


@given(st.text(), st.text())
def test_any_text_is_read(text: str, other: str) -> None:
    bare = without(text, words(other))
    assert not words(bare) & words(other) - {"it"}
    assert without(text, set()).split() == text.split() or "it" in text.lower()
