"""Every format's grammar against its parser: what the masks let through is always read back.

No model takes part: random tokens under the mask, so nothing is well-formed by luck. The marks of
a format are tested as control tokens and as plain text.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from services.inference.adapters.openvino.grammar import AnswerConstraint
from services.inference.adapters.tokenizer import FolderTokenizer
from services.inference.core.demands import CallShape, Constraint, mismatch
from services.inference.core.dialect import FORMATS, THINKS, Dialect
from services.inference.core.generation import Generation, GenerationResult
from services.inference.core.grammar import WRITTEN
from services.inference.core.toolcalls import deepseek
from shared.contracts.agents import ToolSpec
from tests.contract.engines.schemas import random_arguments

LONGEST = 2_000
TOOLS = (ToolSpec(name="f", description="", parameters={}),)
DIALECTS = {
    name: Dialect(name, "openai_gptoss" if name == "openai" else "none") for name in WRITTEN
}
THINKERS = {
    "hermes": Dialect("hermes", "qwen3"),
    "deepseek_v3": Dialect("deepseek_v3", "qwen3"),
    "mistral": Dialect("mistral", "mistral"),
}
BEGINS = {
    "hermes": "<tool_call>",
    "llama3_json": "{",
    "mistral": "[TOOL_CALLS]",
    "mistral_named": "[TOOL_CALLS]",
    "deepseek_v3": deepseek.ALL_BEGIN,
    "deepseek_v31": deepseek.ALL_BEGIN,
    "openai": "<|channel|>commentary",
    "qwen3_coder": "<tool_call>",
    "pythonic": "[",
}
"""How an answer begins that is a call."""
Tokenizers = dict[str, FolderTokenizer]


@pytest.fixture(scope="module", params=["control", "text"])
def tokenizers(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Tokenizers:
    """The tiny vocabulary, with the marks of each format as control tokens or as none."""
    control = request.param == "control"
    made = {}
    for name, dialect in (DIALECTS | THINKERS).items():
        folder = tmp_path_factory.mktemp(name) / "model"
        shutil.copytree(tiny_model, folder)
        _mark(folder, sorted(dialect.marks), control=control)
        made[name] = FolderTokenizer(folder, dialect.marks)
    return made


def _mark(folder: Path, marks: list[str], *, control: bool) -> None:
    """Add the marks as control tokens, or take away those that are there."""
    file, config = folder / "tokenizer.json", folder / "config.json"
    body, shape = json.loads(file.read_text()), json.loads(config.read_text())
    there = [token["content"] for token in body["added_tokens"]]
    new = [mark for mark in marks if mark not in there] if control else []
    first, like = shape["vocab_size"], body["added_tokens"][0]
    kept = [token for token in body["added_tokens"] if control or token["content"] not in marks]
    body["added_tokens"] = kept + [
        {**like, "id": first + place, "content": mark} for place, mark in enumerate(new)
    ]
    file.write_text(json.dumps(body))
    config.write_text(json.dumps(shape | {"vocab_size": first + len(new)}))


def speak(
    tokenizer: FolderTokenizer,
    dialect: Dialect,
    constraint: Constraint,
    seed: int,
    prefer: str = "",
    tail: str = "",
    tools: Sequence[ToolSpec] = TOOLS,
) -> tuple[GenerationResult, bool]:
    """Random tokens, those of `prefer` first: what is read, and whether it came to its end."""
    dice = np.random.default_rng(seed)
    enforced = dialect.enforced(constraint, tail)
    assert enforced is not None
    held = AnswerConstraint(tokenizer.vendor, tokenizer.vocabulary, enforced)
    generation = Generation(tokenizer.decode, reader=dialect.reader(tools, tail))
    wanted = list(tokenizer.vendor.tokenize_str(prefer, parse_special=True))
    for _ in range(LONGEST):
        row = dice.random(tokenizer.vocabulary).astype(np.float32)
        if wanted:
            row[wanted.pop(0)] = 9.0
        token = int(held.masked(row).argmax())
        if token in tokenizer.eos_ids:
            return generation.finish("stop")[1], True
        generation.feed([token])
        if held.accept(token):
            return generation.finish("stop")[1], True
    return generation.finish("length")[1], False


def test_every_format_can_be_written() -> None:
    assert {*WRITTEN} == {*FORMATS, "openai"}


@pytest.mark.parametrize("name", WRITTEN)
def test_random_schemas_are_always_read_back(tokenizers: Tokenizers, name: str) -> None:
    for seed in range(60):
        wanted = random_arguments(seed)
        constraint = Constraint(calls=(CallShape("f", json.dumps(wanted), strict=True),), once=True)
        tools = (ToolSpec(name="f", parameters=wanted),)
        said, whole = speak(
            tokenizers[name], DIALECTS[name], constraint, seed, BEGINS[name], tools=tools
        )
        assert whole
        assert (said.content, said.malformed, len(said.tool_calls)) == ("", (), 1)
        call = said.tool_calls[0]
        assert call.name == "f"
        assert json.dumps(call.arguments, ensure_ascii=False) == json.dumps(
            json.loads(call.raw_arguments), ensure_ascii=False
        )
        assert mismatch(wanted, call.arguments) == ""


NUMBER = CallShape("f", '{"type":"object","properties":{"a":{"enum":[1,2]}},"required":["a"],'
                   '"additionalProperties":false}', strict=True)  # fmt: skip
OTHER = CallShape("g", '{"type":"object","additionalProperties":false}', strict=True)


@pytest.mark.parametrize("name", WRITTEN)
def test_several_calls_are_read_back(tokenizers: Tokenizers, name: str) -> None:
    most = 0
    for seed in range(8):
        constraint = Constraint(calls=(NUMBER, OTHER))
        said, _ = speak(tokenizers[name], DIALECTS[name], constraint, seed, BEGINS[name])
        assert (said.content, said.tool_calls == ()) == ("", False)
        most = max(most, len(said.tool_calls))
        assert {call.name for call in said.tool_calls} <= {"f", "g"}
    assert (most > 1) is not WRITTEN[name].single


@pytest.mark.parametrize("name", WRITTEN)
def test_free_text_may_end_in_calls_and_holds_no_broken_ones(
    tokenizers: Tokenizers, name: str
) -> None:
    constraint = Constraint(calls=(NUMBER,), text=True)
    said, _ = speak(tokenizers[name], DIALECTS[name], constraint, 5, prefer=BEGINS[name])
    assert said.tool_calls
    assert said.malformed == ()
    plain = "<|channel|>final<|message|>plain {text}" if name == "openai" else "plain {text}"
    said, _ = speak(tokenizers[name], DIALECTS[name], constraint, 5, prefer=plain)
    assert said.content.startswith("plain {text}")
    assert said.malformed == ()


@pytest.mark.parametrize("name", WRITTEN)
def test_a_value_is_the_answer(tokenizers: Tokenizers, name: str) -> None:
    constraint = Constraint(value='{"enum":["one","two"]}', strict=True, calls=(NUMBER,), once=True)
    value = '<|channel|>final<|message|>"' if name == "openai" else '"'
    said, whole = speak(tokenizers[name], DIALECTS[name], constraint, 3, prefer=value)
    assert whole
    assert json.loads(said.content) in ("one", "two")


@pytest.mark.parametrize("name", [*THINKERS, "openai"])
def test_reasoning_comes_first_and_is_free(tokenizers: Tokenizers, name: str) -> None:
    dialect = (DIALECTS | THINKERS)[name]
    constraint = Constraint(calls=(NUMBER,), once=True)
    if name == "openai":
        thought = "<|channel|>analysis<|message|>hm {<|end|><|start|>assistant<|channel|>comm"
        said, whole = speak(tokenizers[name], dialect, constraint, 1, prefer=thought)
    else:
        opening, closing = THINKS[dialect.reasoning]
        said, whole = speak(
            tokenizers[name], dialect, constraint, 1, prefer=f"hm {{{closing}", tail=opening
        )
        again, _ = speak(
            tokenizers[name], dialect, constraint, 1, prefer=f"{opening}hm {{{closing}"
        )
        assert (again.reasoning, len(again.tool_calls)) == ("hm {", 1)
        shut, _ = speak(tokenizers[name], dialect, constraint, 1, prefer=opening, tail=closing)
        assert (shut.reasoning, len(shut.tool_calls)) == ("", 1)
    assert whole
    assert (said.reasoning, len(said.tool_calls)) == ("hm {", 1)


OPTIONAL = {
    "type": "object",
    "properties": {
        "a": {"type": "string", "maxLength": 3},
        "b": {"type": "boolean"},
        "c": {"$ref": "#/$defs/c"},
        "d": {"type": "string", "enum": ["x/y", "</tool_call>"]},
    },
    "required": ["b"],
    "additionalProperties": False,
    "$defs": {"c": {"enum": [1, "1", None]}},
}


@pytest.mark.parametrize("name", ["pythonic", "qwen3_coder"])
def test_arguments_that_may_be_left_out_are_read_back(tokenizers: Tokenizers, name: str) -> None:
    """One by one: any of those that are not required, in any company, and texts as they are."""
    call, seen = CallShape("f", json.dumps(OPTIONAL), strict=True), set()
    tools = (ToolSpec(name="f", parameters=OPTIONAL),)
    for seed in range(25):
        constraint = Constraint(calls=(call,), once=True)
        said, whole = speak(
            tokenizers[name], DIALECTS[name], constraint, seed, BEGINS[name], tools=tools
        )
        assert whole
        (made,) = said.tool_calls
        assert mismatch(OPTIONAL, made.arguments) == ""
        seen.add(frozenset(made.arguments))
    assert len(seen) > 4


@pytest.mark.parametrize("name", ["pythonic", "qwen3_coder"])
def test_a_tool_that_says_nothing_of_its_arguments_can_be_called(
    tokenizers: Tokenizers, name: str
) -> None:
    written = {
        "pythonic": '[f(**{"n": 1, "s": "x"})]',
        "qwen3_coder": "<tool_call>\n<function=f>\n<parameter=n>\n1\n</parameter>\n"
        "<parameter=s>\nx\n</parameter>\n</function>\n</tool_call>",
    }[name]
    constraint = Constraint(calls=(CallShape("f"),), once=True)
    said, whole = speak(tokenizers[name], DIALECTS[name], constraint, 1, prefer=written)
    assert whole
    assert [call.arguments for call in said.tool_calls] == [{"n": 1, "s": "x"}]
