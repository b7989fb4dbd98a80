"""The whole path from token ids to the result."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.inference.core.generation import Generation, GenerationResult
from services.inference.core.toolcalls import Event, Reader, TextDelta, ToolCall
from tests.unit.inference.chunkings import places

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


def one_byte(token_id: int) -> bytes:
    return bytes([token_id])


def said(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def whole(text: str, **options: object) -> GenerationResult:
    generation = Generation(one_byte, **options)  # type: ignore[arg-type]  # options of one test
    generation.feed(text.encode())
    return generation.finish("stop")[1]


def test_plain_text() -> None:
    assert whole("Hi é") == GenerationResult("Hi é", (), (), "stop")


def test_calls_decide_the_finish_reason() -> None:
    result = whole(f"Wait.\n{CALL}")
    assert (result.content, result.finish_reason) == ("Wait.", "tool_calls")
    assert [call.name for call in result.tool_calls] == ["add"]


def test_the_length_limit_stays_visible_beside_calls() -> None:
    generation = Generation(one_byte)
    generation.feed(f"{CALL} and".encode())
    assert generation.finish("length")[1].finish_reason == "length"


def test_an_abort_is_not_an_answer() -> None:
    generation = Generation(one_byte)
    generation.feed(b"half")
    assert generation.finish("aborted")[1] == GenerationResult("half", (), (), "aborted")


def test_a_stop_string_wins_over_the_abort_it_causes() -> None:
    generation = Generation(one_byte, stops=["END"])
    assert said(generation.feed(b"one END two")) == "one"  # the space may belong to a tool call
    assert generation.stopped
    assert generation.feed(b"three") == []
    events, result = generation.finish("aborted")
    assert (said(events), result.content, result.finish_reason) == (" ", "one ", "stop")
    assert result.stop_string == "END"


def test_without_tools_the_markup_is_text() -> None:
    assert whole(CALL, reader=Reader(calls=None)).content == CALL


def test_malformed_calls_are_kept_apart() -> None:
    result = whole("a <tool_call>{oops</tool_call>")
    assert (result.content, result.finish_reason) == ("a", "stop")
    assert [bad.text for bad in result.malformed] == ["{oops"]


texts = st.lists(
    st.sampled_from([CALL, "é", "STOP", "ST", " ", "<tool_call>", "x", "{", "☃"]), max_size=8
).map("".join)


@given(texts, places, st.sampled_from(["stop", "length"]))
def test_the_events_add_up_to_the_result_for_every_chunking(
    text: str, at: list[int], reason: str
) -> None:
    data = text.encode()
    reference = Generation(one_byte, stops=["STOP"])
    reference.feed(data)
    expected = reference.finish(reason)[1]  # type: ignore[arg-type]  # sampled literals
    generation = Generation(one_byte, stops=["STOP"])
    ends = [0, *sorted(min(p, len(data)) for p in at), len(data)]
    events = [event for begin, end in pairwise(ends) for event in generation.feed(data[begin:end])]
    last, result = generation.finish(reason)  # type: ignore[arg-type]  # sampled literals
    assert result == expected
    assert said(events + last) == result.content
    calls = tuple(event for event in events + last if isinstance(event, ToolCall))
    assert calls == result.tool_calls
