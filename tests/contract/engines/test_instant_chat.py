"""The chat model around the fake engine: what it adds to tokens is right whatever says them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.inference.core.chat import ChatTemplate
from services.inference.handlers import EngineChat
from services.inference.ports import GenerateRequest
from tests.contract.engines.chat_harness import ChatHarness, MakeChat
from tests.contract.engines.chat_suite import ChatSuite
from tests.fakes.instant_engine import InstantEngine, InstantOptions
from tests.fakes.scripted_model import END, TEMPLATE, ByteTokenizer

CONTEXT = 4096
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'


def echo(request: GenerateRequest) -> Sequence[int]:
    """Says what it is asked, a byte a token."""
    _, _, turn = bytes(request.prompt).decode().rpartition("user: ")
    return [*turn.removesuffix("\n").encode(), END]


@pytest.fixture(scope="module", name="make")
def make_chat() -> MakeChat:
    def build() -> ChatHarness:
        options = InstantOptions(vocabulary=END + 1, context_tokens=CONTEXT, kv_blocks=CONTEXT)
        engine = InstantEngine(echo, options)
        return ChatHarness(
            EngineChat(engine, ByteTokenizer(), ChatTemplate(TEMPLATE, ()), CONTEXT),
            frozenset({"response_format", "tool_choice", "logit_bias", "penalties", "seed"}),
            says=lambda text: text,
            calls=lambda: CALL,
            fail_next_step=engine.fail_next_step,
            break_next_step=engine.break_next_step,
        )

    return build


class TestInstantChat(ChatSuite):
    """All of it."""
