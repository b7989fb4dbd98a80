"""What models write in every format: the reading, and that it does not depend on the chunking."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.core.dialect import ALIASES, FORMATS, HARMONY, NAMED, THINKS, Dialect
from services.inference.core.generation import Generation, GenerationResult
from services.inference.core.toolcalls import Event, ReasoningDelta, TextDelta, ToolCall
from shared.models import AUTO, NONE, PARSERS, REASONING
from tests.unit.inference.chunkings import cut, places
from tests.unit.inference.recordings import RECORDINGS, TOOLS, Recording

DIALECTS = [Dialect(parser) for parser in FORMATS] + [
    Dialect("openai", "openai_gptoss"),
    Dialect("hermes", "qwen3"),
    Dialect("deepseek_v3", "deepseek_r1"),
    Dialect("mistral", "mistral"),
    Dialect(NONE, "qwen3"),
]
every_recording = pytest.mark.parametrize("one", RECORDINGS.values(), ids=RECORDINGS)


def read(dialect: Dialect, *pieces: str, tail: str = "") -> tuple[list[Event], GenerationResult]:
    """The events, neighbouring ones of a kind joined, and the result; a token is a piece."""
    generation = Generation(lambda n: pieces[n].encode(), reader=dialect.reader(TOOLS, tail))
    events = generation.feed(range(len(pieces)))
    rest, result = generation.finish("stop")
    joined: list[Event] = []
    for event in events + rest:
        last = joined[-1] if joined else None
        if isinstance(event, TextDelta | ReasoningDelta) and type(last) is type(event):
            joined[-1] = type(event)(last.text + event.text)  # type: ignore[union-attr]  # as above
        else:
            joined.append(event)
    return joined, result


def of(one: Recording, *pieces: str) -> tuple[list[Event], GenerationResult]:
    return read(one.dialect, *pieces, tail=one.tail)


@every_recording
def test_a_recording_is_read_as_it_is_meant(one: Recording) -> None:
    _, result = of(one, one.written)
    assert (result.content, result.reasoning) == (one.text, one.reasoning)
    assert [(call.name, call.arguments) for call in result.tool_calls] == list(one.calls)
    assert tuple(bad.text for bad in result.malformed) == one.malformed
    numbers = [call.index for call in (*result.tool_calls, *result.malformed)]
    assert sorted(numbers) == list(range(len(numbers)))


@every_recording
def test_every_cut_in_two_and_single_characters_give_the_same(one: Recording) -> None:
    whole = of(one, one.written)
    assert of(one, *one.written) == whole
    for place in range(len(one.written)):
        assert of(one, one.written[:place], one.written[place:]) == whole


LIBRARY = orjson.loads((Path(__file__).parent / "harmony_of_the_library.json").read_bytes())


@pytest.mark.parametrize("one", LIBRARY, ids=range(len(LIBRARY)))
def test_harmony_is_read_as_its_own_library_reads_it(one: dict[str, Any]) -> None:
    """Conversations that `openai-harmony` 0.0.8 rendered, and its `StreamableParser`'s reading."""
    _, result = read(Dialect("openai", "openai_gptoss"), one["written"])
    assert (result.content, result.reasoning.strip()) == (one["text"], one["reasoning"].strip())
    calls = [[call.name, call.raw_arguments] for call in result.tool_calls]
    assert (calls, result.malformed) == (one["calls"], ())


@given(st.sampled_from(list(RECORDINGS.values())), places, st.integers(0, 400))
def test_a_recording_cut_short_anywhere_reads_alike_in_every_chunking(
    one: Recording, at: list[int], end: int
) -> None:
    written = one.written[:end]
    assert of(one, *cut(written, at)) == of(one, written)


def fragments(dialect: Dialect) -> st.SearchStrategy[str]:
    """Texts made of what means something in a format."""
    marks = sorted(dialect.marks)
    halves = [mark[: len(mark) // 2] for mark in marks]
    others = [
        " ", "\n", "é", '"', "'", "\\", "{", "}", "[", "]", "(", ")", "=", ",", "; ", "to=f", "f(",
        '{"name": "f", "parameters": {}}', '{"name": "g", "arguments": {"x": "y"}}', "json",
        "<function=find>", "<parameter=limit>", "</parameter>", "</function>", "function",
        "analysis", "commentary to=functions.f ", "final", "[f(a=1)]", "```json\n", "text",
    ]  # fmt: skip
    return st.lists(st.sampled_from(marks * 3 + halves + others), max_size=14).map("".join)


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_nothing_raises_and_every_chunking_reads_alike(dialect: Dialect) -> None:
    @settings(max_examples=150)
    @given(fragments(dialect) | st.text(max_size=30), places, st.booleans())
    def check(written: str, at: list[int], opened: bool) -> None:
        written = written.encode("utf-8", "replace").decode()
        tail = "<think>\n" if opened else ""
        whole = read(dialect, written, tail=tail)
        assert read(dialect, *cut(written, at), tail=tail) == whole
        assert read(dialect, *written, tail=tail) == whole

    check()


@pytest.mark.parametrize(
    "dialect", [one for one in DIALECTS if one.reasoning != "deepseek_r1"], ids=str
)
def test_plain_text_comes_through_whole(dialect: Dialect) -> None:
    plain = "It is 21 °C in Paris.\n\n* a list\n* and {braces} [too] (yes)\n"
    assert read(dialect, *plain)[0] == [TextDelta(plain)]


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_without_tools_nothing_is_a_call(dialect: Dialect) -> None:
    for one in RECORDINGS.values():
        generation = Generation(str.encode, reader=dialect.reader(()))  # type: ignore[arg-type]
        generation.feed(one.written)  # type: ignore[arg-type]  # characters are tokens here
        assert generation.finish("stop")[1].tool_calls == ()


def test_text_and_reasoning_are_told_as_they_come() -> None:
    reader = Dialect("hermes", "qwen3").reader(TOOLS)
    assert reader.channels.feed("<think>\nOne tw") == [ReasoningDelta("One tw")]
    assert reader.channels.feed("o. </th") == [ReasoningDelta("o.")]
    assert reader.channels.feed("ink>\n\nFo") == [TextDelta("Fo")]
    assert reader.channels.feed("ur") == [TextDelta("ur")]


@pytest.mark.parametrize("written", ['{"answer": "', "[1, 2", "[link]", "{}", "Hello"])
def test_an_answer_that_cannot_be_a_call_is_told_at_once(written: str) -> None:
    for parser in ("llama3_json", "pythonic"):
        calls = Dialect(parser).reader(TOOLS).calls
        assert calls is not None
        assert calls.feed(written) == [TextDelta(written)]


def test_stop_strings_end_the_answer_and_never_the_reasoning() -> None:
    reader = Dialect("hermes", "qwen3").reader(TOOLS)
    generation = Generation(str.encode, ["END"], reader)  # type: ignore[arg-type]  # as above
    generation.feed("<think>END it?</think>yes END no")  # type: ignore[arg-type]
    _, result = generation.finish("aborted")
    assert (result.reasoning, result.content, result.stop_string) == ("END it?", "yes ", "END")


def test_tokens_of_reasoning_are_counted_with_their_tags() -> None:
    generation = Generation(str.encode, reader=Dialect("hermes", "qwen3").reader(()))  # type: ignore[arg-type]
    generation.feed(["<think>", "\n", "Hm", ".", "</think>", "\n\n", "Four", "."])  # type: ignore[list-item]
    assert generation.reasoning_tokens == 5
    harmony = Generation(str.encode, reader=Dialect("openai", "openai_gptoss").reader(()))  # type: ignore[arg-type]
    harmony.feed(["<|channel|>", "analysis", "<|message|>", "Hm", "<|end|>", "<|start|>"])  # type: ignore[list-item]
    assert harmony.reasoning_tokens == 3


@pytest.mark.parametrize("levels", [150, 5_000, 50_000])
def test_deep_brackets_are_no_danger(levels: int) -> None:
    for dialect, head in ((Dialect("pythonic"), "[f(a="), (Dialect("mistral"), "[TOOL_CALLS]f{")):
        written = head + "[" * levels + "]" * levels + ")]}"
        _, result = read(dialect, written)
        assert len(result.tool_calls) + len(result.malformed) == 1


def test_the_names_of_the_models_file_are_the_formats() -> None:
    assert {*FORMATS, *ALIASES, HARMONY, NONE, AUTO} - {NAMED} == set(PARSERS)
    assert {*THINKS, "openai_gptoss", NONE, AUTO} == set(REASONING)
    assert set(ALIASES.values()) <= set(FORMATS)


def test_calls_keep_their_order_and_raw_arguments() -> None:
    one = RECORDINGS["mistral: names and marks"]
    calls = [event for event in of(one, one.written)[0] if isinstance(event, ToolCall)]
    assert all(first.index < second.index for first, second in pairwise(calls))
    assert calls[0].raw_arguments == '{"city": "Paris", "unit": "°C"}'
