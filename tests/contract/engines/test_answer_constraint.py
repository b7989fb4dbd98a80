"""What the masks of the embedded engine let through: random tokens under every kind of constraint.

No model takes part, so nothing is well-formed by luck. Tool tags are tested as control tokens, as
added tokens that control nothing (Qwen), and as plain text.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from services.inference.adapters.openvino.grammar import AnswerConstraint
from services.inference.adapters.tokenizer import FolderTokenizer
from services.inference.core.demands import CallShape, Constraint
from services.inference.core.generation import Generation, GenerationResult
from services.inference.ports import EngineFailed, InvalidRequest
from shared.schemas import check
from tests.fakes.schema_bombs import chain, member

LONGEST = 400
NUMBERS = {
    "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}, "b": {"enum": ["x"]}},
    "required": ["a", "b"],
    "additionalProperties": False,
    "type": "object",
}
ADD = CallShape("add", json.dumps(NUMBERS), strict=True)
FLIP = CallShape('fl"ip', '{"type":"object","additionalProperties":false}', strict=True)
LARGEST = {
    "members": chain(330, member),
    "choices": chain(190, lambda inner: {"anyOf": [{"type": "array", "items": inner}]}),
    "mixed": chain(160, lambda inner: {"additionalProperties": {"anyOf": [{"allOf": [inner]}]}}),
    "names": {"patternProperties": {f"^x{{{n}}}(a|b)+c$": {} for n in range(60)}},
}
STRING, INTEGER = {"type": "string"}, {"type": "integer"}
MET_BY_NOTHING: dict[str, dict[str, object]] = {
    "types": {"allOf": [STRING, INTEGER]},
    "bounds": INTEGER | {"minimum": 5, "maximum": 3},
    "lengths": STRING | {"minLength": 5, "maxLength": 3},
    "multiples": INTEGER | {"minimum": 11, "maximum": 19, "multipleOf": 10},
    "choices": {"enum": []},
    "patterns": {"allOf": [STRING | {"pattern": "^a+$"}, STRING | {"pattern": "^b+$"}]},
    "forbidden": {"type": "object", "properties": {"a": False}, "required": ["a"]},
}
WITHOUT_END: dict[str, dict[str, object]] = {
    "members": {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    "items": {"type": "array", "minItems": 1, "items": {"$ref": "#"}},
    "ones": {"type": "array", "minItems": 30_000, "items": {"const": 1}},
}
TAGS = ("<tool_call>", "</tool_call>")


@pytest.fixture(scope="module", params=["control", "added", "text"])
def tokenizer(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> FolderTokenizer:
    folder = tmp_path_factory.mktemp(request.param) / "model"
    shutil.copytree(tiny_model, folder)
    file = folder / "tokenizer.json"
    body = json.loads(file.read_text())
    if request.param == "added":
        for token in body["added_tokens"]:
            token["special"] = token["special"] and token["content"] not in TAGS
    elif request.param == "text":
        added = body["added_tokens"]
        body["added_tokens"] = [token for token in added if token["content"] not in TAGS]
    file.write_text(json.dumps(body))
    return FolderTokenizer(folder)


def speak(
    tokenizer: FolderTokenizer,
    constraint: Constraint,
    seed: int,
    prefer: str = "",
    longest: int = LONGEST,
) -> tuple[str, GenerationResult, bool]:
    """Random tokens, those of `prefer` first: text, what the parser makes of it, if it is whole."""
    random = np.random.default_rng(seed)
    held = AnswerConstraint(tokenizer.vendor, tokenizer.vocabulary, constraint)
    generation = Generation(tokenizer.decode)
    wanted = list(tokenizer.vendor.tokenize_str(prefer, parse_special=True))
    text = b""
    for _ in range(longest):
        row = random.random(tokenizer.vocabulary).astype(np.float32)
        if wanted:
            row[wanted.pop(0)] = 9.0
        token = int(held.masked(row).argmax())
        if token in tokenizer.eos_ids:
            return text.decode(), generation.finish("stop")[1], True
        text += tokenizer.decode(token)
        generation.feed([token])
        if held.accept(token):
            return text.decode(), generation.finish("stop")[1], True
    return text.decode("utf-8", "replace"), generation.finish("length")[1], False


@pytest.mark.parametrize("seed", range(4))
def test_a_forced_call_is_a_call(tokenizer: FolderTokenizer, seed: int) -> None:
    text, said, whole = speak(tokenizer, Constraint(calls=(ADD, FLIP), once=True), seed)
    assert whole
    assert (said.content, len(said.tool_calls), said.malformed) == ("", 1, ())
    call = said.tool_calls[0]
    assert call.name in ("add", 'fl"ip')
    if call.name == "add":
        assert set(call.arguments) == {"a", "b"}
    assert text.startswith('<tool_call>\n{"name": ')
    assert json.dumps(call.arguments) == call.raw_arguments  # spaced as models were trained


def test_several_calls_may_follow_each_other(tokenizer: FolderTokenizer) -> None:
    spoken = [speak(tokenizer, Constraint(calls=(ADD,)), seed)[1] for seed in (1, 2, 3)]
    assert max(len(said.tool_calls) for said in spoken) > 1


@pytest.mark.parametrize("seed", range(3))
def test_a_value_or_calls(tokenizer: FolderTokenizer, seed: int) -> None:
    either = Constraint(value=json.dumps(NUMBERS), strict=True, calls=(ADD,), once=True)
    _, called, _ = speak(tokenizer, either, seed, prefer="<tool_call>")
    text, valued, _ = speak(tokenizer, either, seed, prefer='{"a"')
    assert [call.name for call in called.tool_calls] == ["add"]
    assert valued.tool_calls == ()
    assert text == json.dumps(json.loads(text), separators=(",", ":"))


def test_free_text_may_hold_calls_but_no_broken_ones(tokenizer: FolderTokenizer) -> None:
    free = Constraint(calls=(ADD,), text=True)
    text, said, whole = speak(tokenizer, free, 5, prefer="so: <tool_call>")
    assert said.tool_calls[0].name == "add"
    assert said.content.startswith("so:")
    assert said.malformed == ()
    plain, _, _ = speak(tokenizer, free, 5, prefer="plain text with < and > in it")
    assert plain.startswith("plain text with < and > in it")
    assert (text.count("<tool_call>"), whole) >= (1, False)


def test_what_is_not_strict_is_held_to_what_is_understood(tokenizer: FolderTokenizer) -> None:
    odd = json.dumps({"not": {"type": "null"}, "type": "integer", "maximum": 9, "minimum": 0})
    text, _, whole = speak(tokenizer, Constraint(value=odd), 1)
    assert whole
    assert 0 <= json.loads(text) <= 9
    with pytest.raises(InvalidRequest) as refused:
        AnswerConstraint(tokenizer.vendor, tokenizer.vocabulary, Constraint(value=odd, strict=True))
    assert refused.value.field == "constraint.value"
    assert '"not"' in refused.value.detail


@pytest.mark.parametrize("schema", ["{", '{"type": 7}', '{"pattern": "(", "type": "string"}'])
def test_a_bad_schema_of_a_tool_is_named(tokenizer: FolderTokenizer, schema: str) -> None:
    constraint = Constraint(calls=(ADD, CallShape("bad", schema, strict=True)))
    with pytest.raises(InvalidRequest) as refused:
        AnswerConstraint(tokenizer.vendor, tokenizer.vocabulary, constraint)
    assert refused.value.field == "constraint.calls"
    assert schema == "{" or "'bad'" in refused.value.detail


@pytest.mark.parametrize("text", ["xy" * 1500, "<|im_end|>é€😀" * 60], ids=["letters", "control"])
def test_a_long_text_that_is_demanded_is_written_letter_by_letter(
    tokenizer: FolderTokenizer, text: str
) -> None:
    """Where there is no choice for long, no mask is computed."""
    constraint = Constraint(value=json.dumps({"const": text}), strict=True)
    spoken, said, whole = speak(tokenizer, constraint, 3, longest=4000)
    assert whole
    assert json.loads(spoken) == json.loads(said.content) == text


def _within(schema: dict[str, object]) -> dict[str, object]:
    return {"type": "object", "properties": {"x": schema}, "required": ["x"]}


@pytest.mark.parametrize("name", MET_BY_NOTHING)
def test_what_no_value_can_meet_is_refused_before_the_answer(
    tokenizer: FolderTokenizer, name: str
) -> None:
    schema = MET_BY_NOTHING[name]
    tool = CallShape("f", json.dumps(_within(schema)), strict=True)
    for constraint, field in (
        (Constraint(value=json.dumps(schema), strict=True), "constraint.value"),
        (Constraint(calls=(tool,)), "constraint.calls"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            AnswerConstraint(tokenizer.vendor, tokenizer.vocabulary, constraint)
        assert refused.value.field == field


@pytest.mark.parametrize("name", WITHOUT_END)
def test_what_has_no_end_is_refused_where_the_answer_gets_there(
    tokenizer: FolderTokenizer, name: str
) -> None:
    """Not a failure of the engine: another try would come to the same place."""
    value, begins = json.dumps(WITHOUT_END[name]), "{" if name == "members" else "["
    tool = CallShape("f", json.dumps(_within(WITHOUT_END[name])), strict=True)
    for constraint, field in (
        (Constraint(value=value, strict=True), "constraint.value"),
        (Constraint(calls=(tool,), once=True), "constraint.calls"),
        (Constraint(value=value, calls=(ADD,)), "constraint"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            speak(tokenizer, constraint, 1, begins)
        assert (refused.value.family, refused.value.field) == ("permanent", field)


def test_a_token_that_is_not_let_through_is_no_fault_of_the_schema(
    tokenizer: FolderTokenizer,
) -> None:
    constraint = Constraint(value='{"type":"integer"}', strict=True)
    held = AnswerConstraint(tokenizer.vendor, tokenizer.vocabulary, constraint)
    with pytest.raises(EngineFailed):
        held.accept(tokenizer.vendor.tokenize_str("{")[0])


@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_schema_that_is_let_through_is_read(
    tokenizer: FolderTokenizer, name: str
) -> None:
    """`shared.schemas` stands before the reader, which ends the process at twice as much."""
    check(LARGEST[name])
    text, _, _ = speak(tokenizer, Constraint(value=json.dumps(LARGEST[name]), strict=True), 1)
    assert text
