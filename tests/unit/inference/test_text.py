"""From bytes to text, and the exact cut before a stop string."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.core.text import StopStrings, Utf8Assembler
from tests.unit.inference.chunkings import cut, places

short = st.text("abc\n", max_size=24)
stops = st.lists(st.text("abc\n", min_size=1, max_size=4), max_size=3)


@given(st.text(max_size=30), places)
def test_any_cut_of_valid_bytes_is_the_text(text: str, at: list[int]) -> None:
    utf8 = Utf8Assembler()
    shown = "".join(utf8.feed(piece) for piece in cut(text.encode(), at))
    assert shown + utf8.finish() == text


@given(st.binary(max_size=30), places)
def test_any_cut_of_any_bytes_is_the_same_text(data: bytes, at: list[int]) -> None:
    utf8 = Utf8Assembler()
    shown = "".join(utf8.feed(piece) for piece in cut(data, at))
    assert shown + utf8.finish() == data.decode("utf-8", "replace")


def test_half_a_character_is_held_back() -> None:
    utf8 = Utf8Assembler()
    assert utf8.feed("é".encode()[:1]) == ""
    assert utf8.feed("é".encode()[1:]) == "é"


def by_single_characters(text: str, words: list[str]) -> tuple[str, bool]:
    """The definition: stop as soon as the text ends with a stop string, the longest of them."""
    for end in range(1, len(text) + 1):
        found = [word for word in words if text[:end].endswith(word)]
        if found:
            return text[: end - max(map(len, found))], True
    return text, False


@given(short, stops, places)
def test_the_cut_is_exact_for_every_chunking(text: str, words: list[str], at: list[int]) -> None:
    stop = StopStrings(words)
    shown = "".join(stop.feed(piece) for piece in cut(text, at))
    assert (shown + stop.finish(), stop.hit is not None) == by_single_characters(text, words)


@pytest.mark.parametrize(
    ("fed", "safe"), [("tex", "tex"), ("text E", "text "), ("END", ""), ("xEN", "x")]
)
def test_only_a_possible_beginning_is_held_back(fed: str, safe: str) -> None:
    assert StopStrings(["END"]).feed(fed) == safe


def test_nothing_comes_after_a_stop_string() -> None:
    stop = StopStrings(["\n"])
    assert [stop.feed("a\nb"), stop.feed("c"), stop.finish(), stop.hit] == ["a", "", "", "\n"]


def test_an_empty_stop_string_means_nothing() -> None:
    stop = StopStrings([""])
    assert (stop.feed("a"), stop.hit) == ("a", None)
