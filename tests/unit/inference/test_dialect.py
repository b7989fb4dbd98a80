"""Which formats a model speaks: from what its chat template shows, or from what its row says."""

from __future__ import annotations

import pytest

from services.inference.core.demands import Constraint, Reasoning
from services.inference.core.dialect import Dialect, dialect_of
from services.inference.core.toolcalls import deepseek
from shared.errors import Permanent

# What the chat templates of these models hold, in a line or two of each.
QWEN3 = (
    "{%- if '</think>' in content %}{%- set reasoning_content = content.split('</think>')[0] %}"
    '{{- \'\\n<tool_call>\\n{"name": "\' }}'
)
TEMPLATES = {
    "Hermes 3": ("<tool_call>\\n{'arguments': <args-dict>, 'name': <function-name>}", "hermes"),
    "Qwen2.5": ('return a json object within <tool_call></tool_call> XML tags', "hermes"),
    "Qwen3": (QWEN3, "hermes/qwen3"),
    "Qwen3-Coder": (
        "<tool_call>\\n<function=example_function_name>\\n<parameter=example_parameter_1>",
        "qwen3_coder",
    ),
    "Llama 3.1": (
        "{{- '<|python_tag|>' + tool_call.name + '.call(' }} "
        '{"name": function name, "parameters": dictionary of argument name and its value}',
        "llama3_json",
    ),
    "Llama 3.2, pythonic": (
        "in the format of [func_name1(params_name1=params_value1...), func_name2(params)]",
        "pythonic",
    ),
    "Mistral 7B v0.3": ('{{- "[TOOL_CALLS] [" }}{{- \'{"name": \' }}', "mistral"),
    "Magistral": ("[THINK]..[/THINK]'[TOOL_CALLS]' + name", "mistral/mistral"),
    "Devstral": ("'[TOOL_CALLS]' + name + '[ARGS]' + arguments", "mistral_named"),
    "Llama 4": (
        'Respond in the format {"name": function name, "parameters": dictionary of argument name',
        "llama3_json",
    ),
    "DeepSeek V3": (deepseek.ALL_BEGIN + "'function' + '\\n' + '```json'", "deepseek_v3"),
    "DeepSeek V3.1": (deepseek.ALL_BEGIN + deepseek.BEGIN + "'</think>'", "deepseek_v31/qwen3"),
    "DeepSeek R1": (
        deepseek.ALL_BEGIN + "```json {% set content = content.split('</think>')[-1] %}",
        "deepseek_v3/qwen3",
    ),
    "gpt-oss": (
        "<|start|>assistant<|channel|>analysis<|message|> commentary to=functions. <tool_call>",
        "openai/openai_gptoss",
    ),
    "a model without tools": ("{% for m in messages %}{{ m.content }}{% endfor %}", "hermes"),
}  # fmt: skip


@pytest.mark.parametrize(("template", "spoken"), TEMPLATES.values(), ids=TEMPLATES)
def test_the_template_tells(template: str, spoken: str) -> None:
    parser, _, reasoning = spoken.partition("/")
    assert dialect_of(template) == Dialect(parser, reasoning or "none")


@pytest.mark.parametrize(
    ("added", "spoken"),
    [
        (["[TOOL_CALLS]", "[ARGS]"], Dialect("mistral_named")),
        (["[TOOL_CALLS]", "[INST]"], Dialect("mistral")),
        (["<|python_tag|>"], Dialect("llama3_json")),
        (["<|python_start|>", "<|python_end|>"], Dialect("llama3_json")),
        (["<think>", "</think>", "<tool_call>"], Dialect("hermes", "qwen3")),
        (["<|channel|>", "<|message|>"], Dialect("openai", "openai_gptoss")),
    ],
)
def test_where_the_template_is_silent_the_added_tokens_tell(
    added: list[str], spoken: Dialect
) -> None:
    assert dialect_of("{{ messages }}", added) == spoken


def test_what_the_template_writes_weighs_more_than_tokens_that_may_be_idle() -> None:
    assert dialect_of("<tool_call>", ["[TOOL_CALLS]", "<|python_tag|>"]).parser == "hermes"


def test_the_row_wins() -> None:
    assert dialect_of(QWEN3, (), "pythonic", "none") == Dialect("pythonic")
    assert dialect_of(QWEN3, (), "llama4_json", "deepseek_r1") == Dialect(
        "llama3_json", "deepseek_r1"
    )
    assert dialect_of("", (), "openai") == Dialect("openai", "openai_gptoss")


@pytest.mark.parametrize(
    ("parser", "reasoning", "field", "word"),
    [
        ("hermess", "auto", "parser", "hermes, qwen3_coder"),
        ("auto", "granite", "reasoning", "deepseek_r1"),
        ("openai", "qwen3", "reasoning", "openai_gptoss"),
        ("hermes", "openai_gptoss", "reasoning", "do not go together"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(
    parser: str, reasoning: str, field: str, word: str
) -> None:
    with pytest.raises(Permanent) as refused:
        dialect_of("", (), parser, reasoning)
    assert (refused.value.code, refused.value.field) == ("unknown_parser", field)
    assert word in refused.value.detail


@pytest.mark.parametrize(
    ("reasoning", "tail", "expected"),
    [
        ("qwen3", "<|im_start|>assistant\n", Reasoning("<think>", "</think>")),
        ("qwen3", "assistant\n<think>\n", Reasoning("<think>", "</think>", opened=True)),
        ("qwen3", "<think>\n\n</think>\n\n", None),
        ("deepseek_r1", "assistant", Reasoning("<think>", "</think>", opened=True)),
        ("deepseek_r1", "</think>", None),
        ("mistral", "[/INST]", Reasoning("[THINK]", "[/THINK]")),
        ("none", "<think>", None),
    ],
)
def test_the_end_of_the_prompt_says_where_the_answer_begins(
    reasoning: str, tail: str, expected: Reasoning | None
) -> None:
    dialect = Dialect("hermes", reasoning)
    assert dialect.reasoning_at(tail) == expected
    enforced = dialect.enforced(Constraint(value="{}"), tail)
    assert enforced == Constraint(value="{}", markup="hermes", reasoning=expected)


def test_only_what_a_reader_needs_is_shown() -> None:
    assert Dialect("hermes", "qwen3").marks == {
        "<tool_call>", "</tool_call>", "<think>", "</think>"
    }  # fmt: skip
    assert Dialect("none").marks == frozenset()
    assert "<|return|>" in Dialect("openai", "openai_gptoss").marks
