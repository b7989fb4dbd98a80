"""How an answer is put together from what an endpoint says."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.adapters.provider.hearing import CallPart, Heard, Reading
from services.inference.core.answering import Answer, Piece
from services.inference.core.generation import TokenUsage
from services.inference.core.toolcalls import ReasoningDelta, ToolCall
from shared.contracts.tokens import Logprob


def read(*heard: Heard, most: int | None = None, aborted: bool = False):
    seconds = itertools.count()
    answer = Answer(0.0, lambda: float(next(seconds)))
    reading = Reading(most)
    pieces: list[Piece] = [piece for one in heard for piece in reading.told(one, answer)]
    pieces += reading.ended(answer, aborted=aborted)
    assert answer.result is not None
    return pieces, answer, answer.result


def call(place: int, *arguments: str, id: str = "", name: str = "f") -> list[Heard]:
    first, *more = arguments
    parts = [CallPart(place, id, name, first), *(CallPart(place, arguments=one) for one in more)]
    return [Heard(calls=(part,)) for part in parts]


def test_text_and_what_it_cost() -> None:
    usage = TokenUsage(5, 2, 1)
    pieces, answer, result = read(
        Heard(), Heard(text="Hel"), Heard(text="lo"), Heard(finish="stop"), Heard(usage=usage)
    )
    assert pieces == [(0, "Hel"), (1, "lo")]
    assert (result.content, result.finish_reason, answer.usage) == ("Hello", "stop", usage)


def test_reasoning_is_no_text_but_is_the_first_token() -> None:
    pieces, answer, result = read(
        Heard(), Heard(thought="hm"), Heard(text="A"), Heard(finish="stop")
    )
    assert (pieces, result.content) == ([ReasoningDelta("hm"), (0, "A")], "A")
    assert result.reasoning == "hm"
    assert answer.first_token == 2.0  # the clock's third reading: start, the empty event, this


@given(st.data())
def test_a_call_is_the_same_however_it_is_cut(data) -> None:
    text = '{"expression": "17 * 23", "n": [1, 2]}'
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1))))
    parts = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    pieces, _, result = read(*call(0, *parts), Heard(finish="tool_calls"))
    assert pieces == [ToolCall(0, "f", {"expression": "17 * 23", "n": [1, 2]}, text)]
    assert (result.tool_calls, result.finish_reason) == (tuple(pieces), "tool_calls")


def test_calls_have_places_of_ours_and_the_text_before_them_is_told_first() -> None:
    pieces, _, _ = read(
        Heard(text="Let me"), *call(3, "{}"), *call(7, '{"a": 1}', name="g"), Heard(finish="stop")
    )
    assert pieces == [
        (0, "Let me"),
        ToolCall(0, "f", {}, "{}"),
        ToolCall(1, "g", {"a": 1}, '{"a": 1}'),
    ]


def test_calls_that_a_server_puts_at_one_place_are_told_apart_by_their_ids() -> None:
    pieces, _, _ = read(
        *call(0, '{"a": 1}', id="x"), *call(0, '{"a": 2}', id="y"), Heard(finish="stop")
    )
    assert [piece.arguments for piece in pieces if isinstance(piece, ToolCall)] == [
        {"a": 1},
        {"a": 2},
    ]


def test_a_call_without_arguments_has_an_empty_object() -> None:
    pieces, _, _ = read(*call(0, ""), Heard(finish="tool_calls"))
    assert pieces == [ToolCall(0, "f", {}, "{}")]


@pytest.mark.parametrize(("arguments", "name"), [('{"a": ', "f"), ("[1]", "f"), ("{}", "")])
def test_what_is_no_call_is_none(arguments, name) -> None:
    pieces, _, result = read(*call(0, arguments, name=name), Heard(finish="tool_calls"))
    assert (pieces, result.tool_calls, result.finish_reason) == ([], (), "stop")
    assert [bad.text for bad in result.malformed] == [arguments]


def test_no_more_calls_than_asked_for() -> None:
    _, _, result = read(*call(0, "{}"), *call(1, "{}"), Heard(finish="tool_calls"), most=1)
    assert len(result.tool_calls) == 1


def test_a_call_that_was_cut_off_by_its_length_says_so() -> None:
    _, _, result = read(*call(0, '{"a": '), Heard(finish="length"))
    assert result.finish_reason == "length"


def test_an_abort_tells_what_was_said_and_no_half_call() -> None:
    pieces, _, result = read(Heard(text="Hel"), *call(0, "{}"), aborted=True)
    assert (pieces, result.finish_reason, result.content) == ([(0, "Hel")], "aborted", "Hel")


def test_scores_stand_beside_their_text() -> None:
    scored = Logprob(text="A", logprob=-0.5, bytes=(65,))
    _, answer, _ = read(Heard(text="A", scores=(scored,)), Heard(finish="stop"))
    assert answer.scores is not None
    assert answer.scores.take("A") == (scored,)


def test_the_stop_string_is_told_where_the_endpoint_tells_it() -> None:
    _, _, result = read(Heard(text="A"), Heard(finish="stop", stop_string="\n"))
    assert (result.finish_reason, result.stop_string) == ("stop", "\n")
