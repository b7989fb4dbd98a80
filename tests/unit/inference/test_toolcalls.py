"""The tool-call markup: what is a call, what is not, and no dependence on the chunking."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.core.toolcalls import (
    Event,
    MalformedToolCall,
    TextDelta,
    ToolCall,
)
from services.inference.core.toolcalls.tagged import TaggedCalls
from tests.unit.inference.chunkings import cut, places

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2.50}}\n</tool_call>'


def parse(*pieces: str) -> list[Event]:
    """All events, neighbouring text joined."""
    parser = TaggedCalls()
    events: list[Event] = [event for piece in pieces for event in parser.feed(piece)]
    joined: list[Event] = []
    for event in events + parser.finish():
        last = joined[-1] if joined else None
        if isinstance(event, TextDelta) and isinstance(last, TextDelta):
            joined[-1] = TextDelta(last.text + event.text)
        else:
            joined.append(event)
    return joined


fragments = st.sampled_from(
    [
        "<tool_call>",
        "</tool_call>",
        "<tool_",
        "</",
        "<",
        " ",
        "\n",
        "text",
        '"',
        "\\",
        '{"name": "f", "arguments": {}}',
        '{"name": "g", "arguments": {"x": "</tool_call>"}}',
        '{"name": "g", "arguments": {"x": "\\"</tool_call>',
        '{"name": ',
        "{}",
        "é",
    ]
)
markup = st.lists(fragments, max_size=12).map("".join)


@given(markup, places)
def test_every_chunking_gives_the_same_events(text: str, at: list[int]) -> None:
    assert parse(*cut(text, at)) == parse(text)


@given(markup)
def test_single_characters_give_the_same_events(text: str) -> None:
    assert parse(*text) == parse(text)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=12), max_size=3), places)
def test_any_arguments_come_back_whole(arguments: dict[str, str], at: list[int]) -> None:
    raw = orjson.dumps(arguments).decode()
    text = f'Let me see. <tool_call>{{"name": "f", "arguments": {raw}}}</tool_call>'
    assert parse(*cut(text, at)) == [TextDelta("Let me see."), ToolCall(0, "f", arguments, raw)]


def test_raw_arguments_are_what_the_model_wrote() -> None:
    assert parse(CALL) == [ToolCall(0, "add", {"a": 1, "b": 2.5}, '{"a": 1, "b": 2.50}')]


def test_calls_are_numbered_and_space_between_them_is_markup() -> None:
    events = parse(f"First.\n{CALL}\n{CALL}\n")
    assert [type(event) for event in events] == [TextDelta, ToolCall, ToolCall]
    assert events[0] == TextDelta("First.")
    assert [event.index for event in events if isinstance(event, ToolCall)] == [0, 1]


def test_text_is_shown_as_soon_as_it_cannot_be_a_tag() -> None:
    parser = TaggedCalls()
    assert parser.feed("a < b <tool") == [TextDelta("a < b")]
    assert parser.feed("box") == [TextDelta(" <toolbox")]


def test_a_call_is_told_at_its_closing_tag() -> None:
    parser = TaggedCalls()
    assert parser.feed(CALL[:-1]) == []
    assert len(parser.feed(CALL[-1:])) == 1


def test_trailing_space_of_plain_text_is_kept() -> None:
    assert parse("text \n") == [TextDelta("text \n")]


@pytest.mark.parametrize(
    ("arguments", "parsed", "raw"),
    [("null", {}, "{}"), ('"{\\"a\\": 1}"', {"a": 1}, '{"a": 1}'), ("{}", {}, "{}")],
)
def test_what_models_write_for_arguments(arguments: str, parsed: dict[str, int], raw: str) -> None:
    text = f'<tool_call>{{"name": "f", "arguments": {arguments}}}</tool_call>'
    assert parse(text) == [ToolCall(0, "f", parsed, raw)]


def test_arguments_may_be_missing() -> None:
    assert parse('<tool_call>{"name": "now"}</tool_call>') == [ToolCall(0, "now", {}, "{}")]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        '{"name": 3, "arguments": {}}',
        '{"name": "", "arguments": {}}',
        '{"arguments": {}}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f", "arguments": "no json"}',
        '{"name": "f", "arguments": {}} and more',
        '{"name": "f", "arguments": ' + "[" * 5000 + "}",
        '{"name": "f", "arguments": {"a": NaN}}',
    ],
)
def test_what_is_no_call_is_malformed_and_the_rest_goes_on(body: str) -> None:
    events = parse(f"<tool_call>{body}</tool_call>after{CALL}")
    assert isinstance(events[0], MalformedToolCall)
    assert (events[0].text, events[0].index) == (body, 0)
    assert events[0].reason
    assert events[1] == TextDelta("after")
    assert isinstance(events[2], ToolCall)
    assert events[2].index == 1


def test_an_unclosed_but_whole_call_counts() -> None:
    assert parse(CALL.removesuffix("</tool_call>")) == parse(CALL)
    assert parse(CALL.removesuffix("call>")) == parse(CALL)


def test_a_call_cut_short_is_malformed() -> None:
    (event,) = parse(CALL[:30])
    assert isinstance(event, MalformedToolCall)
    assert event.reason.startswith("unterminated")


def test_a_quote_left_open_does_not_swallow_the_next_call() -> None:
    events = parse('<tool_call>{"name": "f}</tool_call>\n' + CALL)
    assert [type(event) for event in events] == [MalformedToolCall, ToolCall]
