"""TensorRT-LLM on the look-alike as a chat model, which says what it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from services.inference.adapters.trtllm.factory import build_chat
from shared.models import TensorRtModel
from tests.contract.engines.chat_harness import ChatHarness, MakeChat
from tests.contract.engines.chat_suite import ChatSuite
from tests.contract.engines.lookalike import lookalike, turn

ADD = '<tool_call>\n{"name": "add", "arguments": {"a": 4, "b": 38}}\n</tool_call>'


@pytest.fixture(scope="module", name="make")
def make_chat(tiny_model: Path) -> Iterator[MakeChat]:
    room = {"kv_cache_config": {"max_tokens": 512 * 32}}
    row = TensorRtModel(path=str(tiny_model), context=1024, concurrency=16, options=room)

    def build() -> ChatHarness:
        return ChatHarness(
            build_chat(row),
            lacks=frozenset({"logit_bias", "penalties"}),
            says=lambda text: f"Say exactly: {text}",
            calls=lambda: f"Say exactly: {ADD}",
            fail_next_step=partial(turn, "fail"),
            break_next_step=partial(turn, "fatal"),
        )

    with lookalike():
        yield build


class TestTensorRtChat(ChatSuite):
    """All of it."""
