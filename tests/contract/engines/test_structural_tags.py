"""The structural tag of every format against its parser, as the grammars are.

xgrammar is not here: the few forms that are used are said again in llguidance's Lark, after their
public description, and random tokens are let through.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llguidance import LLMatcher

from services.inference.adapters.tokenizer import FolderTokenizer
from services.inference.core.demands import CallShape, Constraint, Reasoning, mismatch
from services.inference.core.dialect import Dialect
from services.inference.core.generation import Generation, GenerationResult
from services.inference.core.grammar import WRITTEN, SchemaRefused
from services.inference.core.structural import TAGGED, structural_tag
from shared.contracts.agents import ToolSpec
from tests.contract.engines.schemas import random_arguments

LONGEST = 2_000
COMPACT = {"whitespace_flexible": False}
TOOLS = (ToolSpec(name="f", description="", parameters={}),)
NUMBER = CallShape("f", '{"type":"object","properties":{"a":{"enum":[1,2]}},"required":["a"],'
                   '"additionalProperties":false}', strict=True)  # fmt: skip


class Lark:
    """A structural tag as a grammar; all marks are text."""

    def __init__(self, tag: dict[str, Any]) -> None:
        assert tag["type"] == "structural_tag"
        self._rules: list[str] = []
        start = self._named(tag["format"])
        lines = ["%llguidance {}", f"start: {start}", "TEXT: /(.|\\n)*/", *self._rules]
        self.text = "\n".join(lines) + "\n"

    def _named(self, form: dict[str, Any]) -> str:
        body = getattr(self, f"_{form['type']}")(form)
        self._rules.append(f"r{len(self._rules)}: {body}")
        return f"r{len(self._rules) - 1}"

    def _json_schema(self, form: dict[str, Any]) -> str:
        return f"%json {json.dumps(form['json_schema'] | {'x-guidance': COMPACT})}"

    def _any_text(self, form: dict[str, Any]) -> str:
        return "TEXT"

    def _const_string(self, form: dict[str, Any]) -> str:
        assert form["value"]
        return json.dumps(form["value"], ensure_ascii=False)

    def _or(self, form: dict[str, Any]) -> str:
        return " | ".join(map(self._named, form["elements"]))

    def _sequence(self, form: dict[str, Any]) -> str:
        return " ".join(map(self._named, form["elements"]))

    def _tag(self, form: dict[str, Any]) -> str:
        begin, end = (json.dumps(form[key], ensure_ascii=False) for key in ("begin", "end"))
        if form["content"]["type"] != "any_text":
            return f"{begin} {self._named(form['content'])} {end}"
        self._rules.append(f"r{len(self._rules)}[lazy]: TEXT {end}")  # up to the first end
        return f"{begin} r{len(self._rules) - 1}"

    def _tags_with_separator(self, form: dict[str, Any]) -> str:
        assert form["at_least_one"]
        one = f"({' | '.join(map(self._named, form['tags']))})"
        more = f" ({json.dumps(form['separator'])} {one})*"
        return one if form["stop_after_first"] else one + more

    def _triggered_tags(self, form: dict[str, Any]) -> str:
        (trigger,) = form["triggers"]
        assert all(tag["begin"].startswith(trigger) for tag in form["tags"])
        rests = [tag | {"begin": tag["begin"].removeprefix(trigger)} for tag in form["tags"]]
        self._rules.append(f"head[lazy]: TEXT {json.dumps(trigger, ensure_ascii=False)}")
        called = f"head ({' | '.join(map(self._named, rests))})"
        return f"{called} | TEXT" if form["stop_after_first"] else f"({called})* TEXT"


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> FolderTokenizer:
    folder = tmp_path_factory.mktemp("text") / "model"
    shutil.copytree(tiny_model, folder)
    body = json.loads((folder / "tokenizer.json").read_text())
    tags = ("<tool_call>", "</tool_call>")
    body["added_tokens"] = [one for one in body["added_tokens"] if one["content"] not in tags]
    (folder / "tokenizer.json").write_text(json.dumps(body))
    return FolderTokenizer(folder)


def speak(
    tokenizer: FolderTokenizer, constraint: Constraint, seed: int, prefer: str
) -> tuple[GenerationResult, bool]:
    """Random tokens, those of `prefer` first: what is read, and whether it came to its end."""
    grammar = LLMatcher.grammar_from_lark(Lark(structural_tag(constraint)).text)
    matcher = LLMatcher(tokenizer.vendor, grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    reasoning = "openai_gptoss" if constraint.markup == "openai" else "none"
    dialect = Dialect(constraint.markup, "qwen3" if constraint.reasoning else reasoning)
    tail = "<think>" if constraint.reasoning and constraint.reasoning.opened else ""
    generation = Generation(tokenizer.decode, reader=dialect.reader(TOOLS, tail))
    dice, wanted = np.random.default_rng(seed), tokenizer.vendor.tokenize_str(prefer)
    mask = np.zeros((tokenizer.vocabulary + 31) // 32, np.int32)
    for _ in range(LONGEST):
        matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        allowed = np.unpackbits(mask.view(np.uint8), bitorder="little")[: tokenizer.vocabulary]
        row = dice.random(tokenizer.vocabulary)
        if wanted:
            row[wanted.pop(0)] = 9.0
        token = int(np.where(allowed, row, -1.0).argmax())
        if token in tokenizer.eos_ids:
            return generation.finish("stop")[1], True
        generation.feed([token])
        matcher.consume_token(token)
        assert not matcher.is_error(), matcher.get_error()
        if matcher.is_stopped():
            return generation.finish("stop")[1], True
    return generation.finish("length")[1], False


def begins(name: str) -> str:
    """How an answer begins that is a call."""
    writing = WRITTEN[name]
    first = (writing.begin or writing.call("f")[0])[0]
    start = first if isinstance(first, str) else first.text
    return f"{start}commentary" if name == "openai" else start


@pytest.mark.parametrize("name", sorted(TAGGED))
def test_random_schemas_are_always_read_back(tokenizer: FolderTokenizer, name: str) -> None:
    for seed in range(20):
        schema = random_arguments(seed)
        shape = CallShape("f", json.dumps(schema), strict=True)
        if "</tool_call>" in shape.schema:
            continue  # the mask of a text that is a control token: AnswerConstraint sets it right
        constraint = Constraint(calls=(shape,), once=True, markup=name)
        said, whole = speak(tokenizer, constraint, seed, begins(name))
        assert whole
        assert (said.content, said.malformed, len(said.tool_calls)) == ("", (), 1)
        assert mismatch(schema, said.tool_calls[0].arguments) == ""


@pytest.mark.parametrize("name", sorted(TAGGED))
def test_text_a_value_and_several_calls(tokenizer: FolderTokenizer, name: str) -> None:
    plain = "<|channel|>final<|message|>plain" if name == "openai" else "plain"
    free = Constraint(calls=(NUMBER,), text=True, markup=name)
    assert speak(tokenizer, free, 1, plain)[0].content.startswith("plain")
    called, _ = speak(tokenizer, free, 1, begins(name))
    assert called.tool_calls or name == "llama3_json"  # which has no mark to trigger anything
    valued = Constraint(value='{"enum":["one","two"]}', calls=(NUMBER,), markup=name)
    said, whole = speak(tokenizer, valued, 1, plain.removesuffix("plain") + '"')
    assert (json.loads(said.content) in ("one", "two"), whole) == (True, True)
    many = Constraint(calls=(NUMBER,), markup=name)
    most = max(len(speak(tokenizer, many, n, begins(name))[0].tool_calls) for n in range(6))
    assert (most > 1) is not WRITTEN[name].single


@pytest.mark.parametrize("opened", [True, False])
def test_reasoning_comes_first_and_is_free(tokenizer: FolderTokenizer, opened: bool) -> None:
    constraint = Constraint(
        calls=(NUMBER,), once=True, reasoning=Reasoning("<think>", "</think>", opened)
    )
    thought = "hm {</think>" if opened else "<think>hm {</think>"
    said, whole = speak(tokenizer, constraint, 2, thought)
    assert whole
    assert (said.reasoning, said.content, len(said.tool_calls)) == ("hm {", "", 1)


def test_a_value_alone_needs_no_format() -> None:
    assert structural_tag(Constraint(value='{"type":"object"}', markup="pythonic")) == {
        "type": "structural_tag",
        "format": {
            "type": "json_schema",
            "json_schema": {"type": "object", "additionalProperties": True},
        },
    }


def test_a_schema_that_is_not_json_is_named() -> None:
    with pytest.raises(SchemaRefused) as refused:
        structural_tag(Constraint(calls=(CallShape("f", "{"),)))
    assert refused.value.field == "constraint.calls"
