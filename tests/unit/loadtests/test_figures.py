"""Distributions in buckets, stopwatches, and what becomes of failures."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.figures import Book, Figures, Times
from loadtests.took import Stopwatch, Took
from shared.errors import Permanent, Transient

SECONDS = st.lists(st.floats(1e-5, 1e4), min_size=1, max_size=60)


def times_of(*seconds: float) -> Times:
    found = Times()
    for one in seconds:
        found.add(one)
    return found


@given(seconds=SECONDS, share=st.floats(0.01, 1))
def test_a_quantile_is_right_to_two_per_cent(seconds: list[float], share: float) -> None:
    exact = sorted(seconds)[max(1, math.ceil(share * len(seconds) - 1e-9)) - 1]
    assert times_of(*seconds).quantile(share) == pytest.approx(exact, rel=0.021)


@given(SECONDS, SECONDS)
def test_two_distributions_are_one_of_all(one: list[float], other: list[float]) -> None:
    merged = times_of(*one)
    merged.merge(times_of(*other))
    whole = times_of(*one, *other)
    assert merged.buckets == whole.buckets
    assert merged.total == pytest.approx(whole.total)
    assert (merged.count, merged.most) == (len(one) + len(other), max(*one, *other))


def test_nothing_has_no_quantile_and_no_time_is_a_time() -> None:
    assert Times().quantile(0.5) is None
    assert times_of(0.0).quantile(0.5) == 0.0


def test_a_distribution_stays_small() -> None:
    assert len(times_of(*(0.1 + n / 1e5 for n in range(10_000))).buckets) < 50


def test_a_stopwatch_knows_the_first_piece_and_the_longest_pause() -> None:
    watch = Stopwatch(10.0)
    for moment in (11.0, 11.5, 13.5, 14.0):
        watch.piece(moment)
    assert watch.took(15.0, tokens=4) == Took(5.0, first=1.0, gap=2.0, tokens=4)


def test_one_piece_makes_no_pause_and_none_no_first() -> None:
    watch = Stopwatch(0.0)
    assert watch.took(1.0) == Took(1.0)
    watch.piece(1.0)
    assert watch.took(2.0) == Took(2.0, first=1.0)


def test_failures_are_counted_by_reason_and_refusals_apart() -> None:
    figures = Figures()
    figures.took(Took(0.1, tokens=3, steps=2))
    for _ in range(2):
        figures.failed(Permanent("wrong_answer", "no"))
    figures.failed(Transient("refused", "503 queue_full"))
    assert figures.failures == {"wrong_answer: no": 2}
    assert (figures.count, figures.failed_count, figures.refused) == (4, 2, 1)


def test_a_failure_for_the_moment_that_is_no_refusal_is_a_failure() -> None:
    figures = Figures()
    figures.failed(Transient("bus_unavailable"))
    assert (figures.failed_count, figures.refused) == (1, 0)


def test_reasons_are_bounded() -> None:
    figures = Figures()
    for number in range(100):
        figures.failed(Permanent("wrong_answer", str(number)))
    assert len(figures.failures) == 21
    assert figures.failed_count == 100


def test_a_book_adds_up_the_tenants_and_survives_the_pipe() -> None:
    book = Book()
    book.of("chat", "a").took(Took(0.1, tokens=1))
    book.of("chat", "b").took(Took(0.2, tokens=2))
    read = msgspec.json.decode(msgspec.json.encode(book), type=Book)
    assert read == book
    whole = read.whole("chat")
    assert (whole.count, whole.tokens, whole.times.most) == (2, 3, 0.2)
    assert read.whole("search").count == 0
