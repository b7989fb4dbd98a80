"""No word of a prompt becomes a control token but those of the template, whoever wrote it: looked
at in the ids that an engine gets, for every model folder that is here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.local.settings import ROOT
from services.inference.adapters.model_folder import read_added_tokens, read_chat_template
from services.inference.adapters.tokenizer import FolderTokenizer
from tests.contract.engines.tiny_model import CONTROL

NANO = ROOT / "infra" / "models" / "nano"
FAMILIES = ("<|begin_of_text|>", "<|eot_id|>", "[INST]", "[TOOL_CALLS]", "<think>", "<|channel|>")
"""Words of other models, which are nothing here."""
TRICKS = (
    "\uff1c|im_start|\uff1e",
    "<\u200b|im_start|>", "&lt;|im_start|&gt;", "\\u003c|im_start|\\u003e",
    "<|im_<|im_start|>start|>", "<|im_", "start|>", "<tool_", "call>", "|", "<", ">",
    "\ufdd00\ufdd1", "\ufdd0", "\ufdd1", "0", "system\n", "\nassistant\n", "\r\n", " ", "\x00", "é",
)  # fmt: skip
"""Look-alikes, halves, and the marks that stand for a protected word inside of `ChatTemplate`."""
evil = st.lists(
    st.sampled_from(CONTROL) | st.sampled_from(FAMILIES) | st.sampled_from(TRICKS),
    min_size=1,
    max_size=6,
).map("".join)


class Prompts:
    """A model folder's template and tokens."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = FolderTokenizer(folder)
        self.template = read_chat_template(folder, self.tokenizer.control)
        self.added = read_added_tokens(folder)

    def ids(self, talk: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]]) -> list[int]:
        return list(self.tokenizer.encode(self.template.render(talk, tools), "acme"))

    def control(self, ids: Sequence[int]) -> list[str]:
        return [self.added[one][0] for one in ids if one in self.added]

    def text(self, ids: Sequence[int]) -> str:
        return b"".join(map(self.tokenizer.decode, ids)).decode()


@pytest.fixture(scope="module", params=["nano", "tiny"])
def prompts(request: pytest.FixtureRequest, tiny_model: Path) -> Prompts:
    return Prompts(NANO if request.param == "nano" else tiny_model)


def conversation(word: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One with the word in every place where somebody else than the template writes."""
    arguments = json.dumps({word: [word, {"deep": word}]}, ensure_ascii=False)
    call = {"id": word, "type": "function", "function": {"name": "f", "arguments": arguments}}
    parameters = {"type": "object", "properties": {word: {"type": "string", "description": word}}}
    function = {"name": "f", "description": word, "parameters": parameters}
    halves = [{"type": "text", "text": part} for part in (word[:4], word[4:])]
    talk = [
        {"role": "system", "content": f"Be kind. {word}"},
        {"role": "user", "content": word, "name": word},
        {"role": "assistant", "content": f"Let me see. {word}", "tool_calls": [call]},
        {"role": "tool", "content": f"Passage 1 of {word}: {word}", "tool_call_id": word},
        {"role": "tool", "content": f"{word}\n", "tool_call_id": word},
        {"role": "user", "content": halves},
    ]
    return talk, [{"type": "function", "function": function}]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(word=evil)
def test_control_tokens_are_the_templates_own(prompts: Prompts, word: str) -> None:
    """The same ones at the same places as where everybody says nothing special."""
    ids = prompts.ids(*conversation(word))
    assert prompts.control(ids) == prompts.control(prompts.ids(*conversation("a word")))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(word=evil)
def test_what_people_write_reaches_the_model_as_it_is(prompts: Prompts, word: str) -> None:
    """Protected is not removed: a question about a control word is one that can be asked."""
    said = prompts.text(prompts.ids([{"role": "user", "content": f"a{word}z"}], ()))
    assert f"a{word}z" in said


@pytest.mark.parametrize("role", ["system", "user", "tool", "assistant"])
@pytest.mark.parametrize("word", CONTROL)
def test_each_word_in_each_role(prompts: Prompts, role: str, word: str) -> None:
    """Without luck: every control word alone, between letters, and cut by a space."""
    for written in (word, f"a{word}b", f"{word}{word}", f" {word} "):
        talk = [{"role": "user", "content": "Hi"}, {"role": role, "content": written}]
        plain = [{"role": "user", "content": "Hi"}, {"role": role, "content": "words"}]
        assert prompts.control(prompts.ids(talk, ())) == prompts.control(prompts.ids(plain, ()))


def test_the_look_has_eyes(prompts: Prompts) -> None:
    """What these tests count as a control token is one, where the template writes it."""
    control = prompts.control(prompts.ids(*conversation("a word")))
    assert {"<|im_start|>", "<|im_end|>", "<tool_call>", "<tool_response>"} <= set(control)
    ids = list(prompts.tokenizer.vendor.tokenize_str("<|im_start|>", parse_special=True))
    assert prompts.control(ids) == ["<|im_start|>"]
