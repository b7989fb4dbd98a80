"""Which sentence of a passage answers best."""

from __future__ import annotations

import pytest

from services.retrieval.core.highlights import (
    CLOSE,
    MOST,
    Marked,
    Question,
    Reading,
    embedding_texts,
    read,
    score,
    unread,
)
from services.retrieval.core.rows import Hit
from services.retrieval.core.sentences import Sentence, sentences


def hit(text: str, document: str = "d") -> Hit:
    return Hit(document=document, text=text, start=0, end=len(text), sequence=1, score=0.5)


def test_a_sentence_that_points_back_is_read_with_what_it_points_to() -> None:
    found = sentences("The Basic plan is for small teams. It costs 9 euros. It has 5 users. Items.")
    subject = "The Basic plan is for small teams."
    assert embedding_texts(found) == (
        subject, f"{subject} It costs 9 euros.", f"{subject} It has 5 users.", "Items.",
    )  # fmt: skip


def test_a_heading_is_read_with_the_sentences_that_do_not_name_it() -> None:
    found = [Sentence("Sick leave is paid.", "Sick leave"), Sentence("Call by 9.", "Sick leave")]
    assert embedding_texts(found) == ("Sick leave is paid.", "Sick leave: Call by 9.")


@pytest.mark.parametrize(
    ("question", "better", "worse"),
    [
        ("how many days are free", "Five people have 9 of them.", "Nobody has them."),
        ("when is the party", "It is on Mondays.", "It is in the garden."),
        ("who signs the form", "It is signed by Ada Lopez.", "It is signed every year."),
        ("is the hotel limit high", "The hotel limits vary.", "The taxi limit varies."),
        ("how to reach the desk", "The desk is reached by mail.", "The desk is left by bus."),
        ("where is the lobby", "It is beside the lift.", "It belongs to Ada Lopez."),
        ("who leads the team", "Ada Lopez leads it.", "May leads to it."),
        ("what is the rent of the hall", "It is 20 euros a day.", "It has 20 seats."),
        ("which month is it paid", "In March.", "By the office."),
        ("how long does the tour last", "It takes 60 minutes.", "It takes 20 people."),
        ("how big is the crew", "It has 45 people.", "It has 45 lockers."),
        ("when can I take leave", "It is open after 4 months.", "It is asked for 5 weeks early."),
        ("how far ahead is it asked for", "Ask 5 weeks in advance.", "You get 38 weeks."),
        ("what is the cap on gifts", "They are limited to 20.", "They have 20 rules."),
        ("which extension has the desk", "Its phone number is 137.", "It has 137 chairs."),
        ("when was the hall opened", "It was built in 1703.", "It holds 842 guests."),
        ("what is the mug worth", "We paid 27 zloty.", "It holds 27 litres."),
    ],
)
def test_of_two_sentences_as_near_one_answers_better(
    question: str, better: str, worse: str
) -> None:
    assert score(question, better, better, 0.5) > score(question, worse, worse, 0.5)


def test_similarity_decides_where_nothing_else_differs() -> None:
    assert score("zebra", "a horse", "a horse", 0.6) > score("zebra", "a donkey", "a donkey", 0.5)
    assert score("what is it?", "", "", 0.25) == 0.25  # a question of small words alone


def test_what_is_asked_for_must_stand_in_the_sentence_itself() -> None:
    """Not in the one before, with which it is embedded."""
    before, sentence = "Ada Lopez leads the team.", "It has members."
    together = f"{before} {sentence}"
    question = "who leads the team"
    assert score(question, before, before, 0.5) > score(question, sentence, together, 0.5)


def test_the_passage_with_the_best_sentence_comes_first() -> None:
    first, second = hit("Far. Near."), hit("Nearest. Far.", "e")
    question = Question("zebra", (1.0, 0.0))
    near, nearest, far = (0.6, 0.8), (1.0, 0.0), (0.0, 1.0)
    ranked = question.ranked(
        [first, second], read("zebra", [first, second]), [far, near, nearest, far]
    )
    assert ranked == [Marked(second, "Nearest."), Marked(first, "Near.")]


@pytest.mark.parametrize(
    ("text", "likes", "best"),
    [
        ("One. Two. Six.", (0.5, 0.1, 0.5 + CLOSE), ("Six.",)),
        ("One. Two. Six.", (0.51, 0.1, 0.5 + CLOSE), ("Six.", "One.")),
        ("One. Two. Six.", (0.5, 0.5, 0.5), ("One.", "Two.")),
        ("One. One. Six.", (0.5, 0.5, 0.1), ("One.",)),
        ("One. One.", (0.5, 0.5), ("One.",)),
    ],
)
def test_a_sentence_that_is_about_as_good_is_named_too(
    text: str, likes: tuple[float, ...], best: tuple[str, ...]
) -> None:
    passage = hit(text)
    ranked = Question("q", (1.0,)).ranked(
        [passage], read("q", [passage]), [(like,) for like in likes]
    )
    assert ranked == [Marked(passage, *best)]


def test_equal_passages_stay_in_their_order() -> None:
    hits = [hit("Same.", name) for name in "abc"]
    ranked = Question("q", (1.0,)).ranked(hits, read("q", hits), [(1.0,)] * 3)
    assert [one.hit.document for one in ranked] == ["a", "b", "c"]


def test_a_search_reads_so_many_sentences_and_no_more() -> None:
    hits = [hit("One. Two."), hit("Again. " * MOST), hit("Three.")]
    readings = read("q", hits)
    assert [len(reading.sentences) for reading in readings] == [2, 0, 0]
    ranked = Question("q", (1.0,)).ranked(hits, readings, [(0.1,), (0.3,)])
    assert ranked == [Marked(hits[0], "Two."), *unread(hits[1:])]


def test_nothing_to_read() -> None:
    assert read("q", [hit(" ")]) == [Reading()]


def test_what_all_sentences_are_about_tells_none_from_another() -> None:
    """The vectors: with its topic each is as near; without it only one is."""
    passage = hit("The hall is on the roof. The hall is booked by mail.")
    [reading] = read("How do I get the hall?", [passage])
    assert reading.bare == ("How do I get it?", "it is on the roof.", "it is booked by mail.")
    assert reading.about == (1.0, 1.0)
    near, far = (1.0, 0.0), (0.0, 1.0)
    question = Question("How do I get the hall?", near)
    for vectors, best in (
        ([near, near, near, far, near], "The hall is booked by mail."),
        ([near, near, near, near, far], "The hall is on the roof."),
    ):
        assert question.ranked([passage], [reading], vectors)[0].highlight == best


def test_a_sentence_about_something_else_gains_nothing_from_it() -> None:
    passage = hit("The hall is red. The hall is big. You get tea.")
    [reading] = read("Do I get the hall?", [passage])
    assert reading.about == (1.0, 1.0, 0.0)


def test_sentences_with_no_topic_in_common_are_compared_once() -> None:
    [reading] = read("Is the hall big?", [hit("The hall is red. Tea is free.")])
    assert reading.bare == reading.about == ()
    assert reading.texts == reading.embedded
