"""How much to think is told to each template in its own words, or to none."""

from __future__ import annotations

import jinja2
import pytest

from services.inference.core.chat import ChatTemplate
from services.inference.core.effort import LEVELS, Knobs, knobs_of

QWEN = (
    "{{ messages[0].content }}{% if enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>{% endif %}"
)
GRANITE = "{% if thinking %}think!{% endif %}{{ messages[0].thinking }}"
GPT_OSS = (
    "{% macro system() %}"
    '{% if reasoning_effort is not defined %}{% set reasoning_effort = "medium" %}{% endif %}'
    "Reasoning: {{ reasoning_effort }}"
    "{% endmacro %}{{ system() }}"
)
MISTRAL = (
    "{% set effort = reasoning_effort or 'none' %}{% if effort not in ['none', 'high'] %}"
    "{{ raise_exception('no such effort') }}{% endif %}effort={{ effort }}"
)
ANSWER = "{% set message = messages[0] %}{{ message.thinking }}{{ message.reasoning_effort }}"


def knobs(source: str) -> Knobs:
    return knobs_of(jinja2.Environment().parse(source))  # noqa: S701  # nothing is rendered


def rendered(source: str, effort: str | None) -> str:
    template = ChatTemplate(source, ())
    return "".join(
        one.text
        for one in template.render([{"role": "user", "content": "hi"}], effort=effort)  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (QWEN, Knobs(("enable_thinking",))),
        (GRANITE, Knobs(("thinking",))),
        (GPT_OSS, Knobs((), ("low", "medium", "high"))),
        (MISTRAL, Knobs((), ("none", "high"))),
        (ANSWER, Knobs()),
        ("{{ messages[0].content }}", Knobs()),
    ],
)
def test_a_template_says_by_what_it_looks_for_what_it_can_be_told(
    source: str, expected: Knobs
) -> None:
    assert knobs(source) == expected


@pytest.mark.parametrize(
    ("source", "able"),
    [(QWEN, True), (GRANITE, True), (GPT_OSS, False), (MISTRAL, True), (ANSWER, False)],
)
def test_whether_thinking_can_be_switched_off(source: str, able: bool) -> None:
    assert ChatTemplate(source, ()).can_stop_thinking == able


@pytest.mark.parametrize(
    ("source", "effort", "prompt"),
    [
        (QWEN, None, "hi"),
        (QWEN, "none", "hi<think>\n\n</think>"),
        (QWEN, "minimal", "hi"),
        (GRANITE, None, ""),
        (GRANITE, "high", "think!"),
        (GPT_OSS, None, "Reasoning: medium"),
        (GPT_OSS, "low", "Reasoning: low"),
        (GPT_OSS, "minimal", "Reasoning: low"),
        (GPT_OSS, "max", "Reasoning: high"),
        (MISTRAL, None, "effort=none"),
        (MISTRAL, "none", "effort=none"),
        (MISTRAL, "low", "effort=high"),
    ],
)
def test_an_effort_reaches_the_prompt_in_the_words_of_its_template(
    source: str, effort: str | None, prompt: str
) -> None:
    assert rendered(source, effort) == prompt


@pytest.mark.parametrize("source", [QWEN, GRANITE, GPT_OSS, MISTRAL])
def test_no_effort_makes_a_template_fail(source: str) -> None:
    prompts = {effort: rendered(source, effort) for effort in LEVELS}
    thinking = [prompt for effort, prompt in prompts.items() if effort != "none"]
    assert prompts["none"] not in thinking or not ChatTemplate(source, ()).can_stop_thinking
