"""TensorRT-LLM as a chat model; a real model says what its weights say."""

from __future__ import annotations

import pytest

from services.inference.adapters.trtllm.factory import build_chat
from tests.contract.engines.chat_harness import ChatHarness, MakeChat
from tests.contract.engines.chat_suite import ChatSuite
from tests.gpu.model import row

pytest.importorskip("tensorrt_llm")


@pytest.fixture(scope="module", name="make")
def make_chat() -> MakeChat:
    lacks = frozenset({"logit_bias", "penalties", "failed", "broken"})
    return lambda: ChatHarness(build_chat(row(16, 512)), lacks=lacks)


class TestTensorRtChat(ChatSuite):
    """All of it."""
