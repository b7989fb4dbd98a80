"""TensorRT-LLM against the two suites. What only a fault could show is left to the look-alike."""

from __future__ import annotations

from typing import Any

import pytest

from services.inference.adapters.trtllm.factory import build_chat
from shared.models import TensorRtModel
from tests.contract.engines.chat_harness import ChatHarness, MakeChat
from tests.contract.engines.chat_suite import ChatSuite
from tests.contract.engines.engine_suite import EngineSuite, Harness, MakeHarness
from tests.gpu.model import FOLDER

pytest.importorskip("tensorrt_llm")

BLOCK, CONTEXT = 32, 1024
NO_FAULT = "the library cannot be told to fail"


def row(concurrency: int, kv_blocks: int, **more: Any) -> TensorRtModel:
    return TensorRtModel(
        path=str(FOLDER),
        context=CONTEXT,
        concurrency=concurrency,
        block_tokens=BLOCK,
        options={"kv_cache_config": {"max_tokens": kv_blocks * BLOCK}},
        **more,
    )


class TestTensorRtEngine(EngineSuite):
    @pytest.fixture
    def make(self) -> MakeHarness:
        def build(*, max_sequences: int = 16, kv_blocks: int = 64) -> Harness:
            return Harness(build_chat(row(max_sequences, kv_blocks)).engine, lambda: None)

        return build

    @pytest.mark.skip(reason=NO_FAULT)
    async def test_a_failed_step_leaves_the_engine_usable(self) -> None: ...

    @pytest.mark.skip(reason=NO_FAULT)
    async def test_health_follows_the_life_of_the_engine(self) -> None: ...


@pytest.fixture(scope="module", name="make")
def make_chat() -> MakeChat:
    lacks = frozenset({"logit_bias", "penalties", "failed", "broken"})
    return lambda: ChatHarness(build_chat(row(16, 512)), lacks=lacks)


class TestTensorRtChat(ChatSuite):
    """All of it."""
