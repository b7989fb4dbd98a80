"""Passages are verbatim, in order, complete, and cut where sentences end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from services.retrieval.core.chunking import CHARS_PER_TOKEN, Chunk, chunk_document


def words(text: str) -> int:
    return len(text.split())


PIECES = st.sampled_from(
    [
        "# Title\n",
        "## Part two ##\n",
        "\n",
        "\r\n",
        "```\n# no heading\n```\n",
        "- item. ",
        "word ",
        "A sentence with some words. ",
        "x" * 70,
        "\u00e4\u00f6 \u4e2d\u6587\u3002",
        "\t",
        "\x0c",
        "| a | b |\n",
    ]
)
DOCUMENTS = st.one_of(st.text(max_size=400), st.lists(PIECES, max_size=40).map("".join))


@settings(max_examples=120, deadline=None)
@given(text=DOCUMENTS, limit=st.integers(1, 30))
def test_passages_are_verbatim_and_complete(text: str, limit: int) -> None:
    chunks = chunk_document(text, words, limit)
    at = 0
    for number, chunk in enumerate(chunks):
        assert chunk.ordinal == number
        assert chunk.text == text[chunk.start : chunk.end]
        assert chunk.text == chunk.text.strip() != ""
        assert not text[at : chunk.start].strip(), "text between two passages was lost"
        at = chunk.end
    assert not text[at:].strip(), "the end was lost"


@settings(max_examples=60, deadline=None)
@given(text=DOCUMENTS, limit=st.integers(2, 30))
def test_passages_are_bounded(text: str, limit: int) -> None:
    for chunk in chunk_document(text, words, limit):
        # The headings come on top of the first passage's own limit.
        assert words(chunk.text) <= 2 * limit
        assert len(chunk.text) <= 2 * limit * CHARS_PER_TOKEN + 2


def test_cuts_fall_between_sentences_even_in_wrapped_lines() -> None:
    text = (
        "The hotel may cost up to\n140 euros per night. Breakfast is part\nof it. "
        "Flights are booked by the\ntravel desk in advance. Trains are\nsecond class for everyone."
    )
    texts = [chunk.text for chunk in chunk_document(text, words, 14)]
    assert [text[-1] for text in texts] == ["."] * len(texts)
    assert len(texts) > 1


def test_a_heading_goes_with_its_text() -> None:
    text = "# Book\n\nIntro here.\n\n## Travel\n\n## Hotels\n\nOne night costs 140 euros.\n"
    first, second = chunk_document(text, words, 50)
    assert first == Chunk(0, 0, 19, "# Book\n\nIntro here.", "Book")
    assert second.text == "## Travel\n\n## Hotels\n\nOne night costs 140 euros."
    assert second.heading == "Hotels"


def test_later_passages_are_embedded_with_their_heading() -> None:
    text = "## Leave\n\nThirty days a year. Unused days expire in March. Ask your lead first."
    first, second, *_ = chunk_document(text, words, 5)
    assert first.embedding_text() == first.text
    assert second.embedding_text() == "Leave\n" + second.text


def test_fenced_code_holds_no_headings() -> None:
    (chunk,) = chunk_document("```\n# comment\n```\ntext", words, 50)
    assert chunk.heading == ""


def test_nothing_to_say_gives_no_passages() -> None:
    assert chunk_document(" \n\t\n ", words, 10) == []


def test_one_endless_word_is_cut_by_characters() -> None:
    chunks = chunk_document("y" * 1000, words, 10)
    assert "".join(chunk.text for chunk in chunks) == "y" * 1000
    assert max(len(chunk.text) for chunk in chunks) <= 10 * CHARS_PER_TOKEN
