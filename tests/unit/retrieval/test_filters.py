"""User input stays a value in a filter, whatever it looks like, and no filter lacks its tenant."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.retrieval.core.filters import Filter, Term, Value, lit, scope
from shared.errors import Permanent

HOSTILE = [
    'x" or tenant != "',
    "k0'] or id in ['k1",
    "\\",
    '\\"',
    "a\nb",
    "{t}",
    "%",
    "\u2028",
    "'",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_text_is_one_literal(value: str) -> None:
    assert json.loads(lit(value)) == value


@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"])))
def test_any_text_is_one_literal(value: str) -> None:
    text = lit(value)
    assert json.loads(text) == value
    assert text.startswith('"')
    assert text.endswith('"')


@pytest.mark.parametrize("value", ["\x00", "a\x1b", math.nan, math.inf])
def test_what_cannot_be_written_is_refused(value: str | float) -> None:
    with pytest.raises(Permanent) as caught:
        lit(value)
    assert caught.value.code == "invalid_filter"


def test_truth_is_no_number() -> None:
    assert (lit(True), lit(1), lit(0.5)) == ("true", "1", "0.5")


def test_a_filter_begins_with_its_scope() -> None:
    text = scope("acme", "handbook").also("sequence", "<", 7).expression()
    assert text == 'tenant == "acme" and collection == "handbook" and sequence < 7'


def test_a_field_name_is_no_place_for_input() -> None:
    with pytest.raises(Permanent):
        Filter((Term('tenant == "b" or id', "==", "x"),)).expression()


def test_the_tree_means_what_the_text_says() -> None:
    row: dict[str, Value] = {"tenant": "a", "collection": "c", "sequence": 5}
    assert scope("a", "c").also("sequence", "<", 6).matches(row)
    assert not scope("a", "c").also("sequence", ">", 5).matches(row)
    assert not scope("b", "c").matches(row)
    assert not scope("a", "d").matches(row)
