"""The embedded engine as a chat model: a real model with random weights, steered by schemas."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from services.inference.adapters.openvino.engine import OpenVinoEngine
from services.inference.adapters.openvino.factory import build_chat
from services.inference.adapters.openvino.grammar import AnswerConstraint
from services.inference.adapters.openvino.options import EngineOptions
from services.inference.adapters.tokenizer import FolderTokenizer
from tests.contract.engines.chat_harness import ChatHarness, MakeChat
from tests.contract.engines.chat_suite import ChatSuite
from tests.contract.engines.fallible import Switches


@pytest.fixture(scope="module", name="make")
def make_chat(tiny_model: Path) -> MakeChat:
    options = EngineOptions(max_sequences=16, kv_blocks=512)
    tokenizer = FolderTokenizer(tiny_model)

    def build() -> ChatHarness:
        chat, switches = build_chat(tiny_model, options), Switches()
        chat.engine = OpenVinoEngine(
            partial(switches.load, tiny_model, options),
            partial(AnswerConstraint, tokenizer.vendor, tokenizer.vocabulary),
            options,
        )
        return ChatHarness(
            chat,
            fail_next_step=partial(switches.turn, "failing"),
            break_next_step=partial(switches.turn, "buggy"),
        )

    return build


class TestOpenVinoChat(ChatSuite):
    """All of it."""
