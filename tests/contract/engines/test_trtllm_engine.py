"""The TensorRT-LLM engine on the look-alike against the suite, and what only it promises."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.inference.adapters.trtllm.factory import build_chat
from services.inference.ports import Engine
from shared.models import TensorRtModel
from tests.contract.engines.engine_suite import EngineSuite, Harness, MakeHarness
from tests.contract.engines.lookalike import lookalike, turn

BLOCK = 32


@pytest.fixture(scope="module", autouse=True)
def library() -> Iterator[Any]:
    with lookalike() as package:
        yield package


def engine_of(folder: Path, *, kv_blocks: int = 64, **changes: Any) -> Engine:
    options = {"kv_cache_config": {"max_tokens": kv_blocks * BLOCK}, **changes.pop("options", {})}
    row = {"path": str(folder), "context": 1024, "concurrency": 16, "options": options} | changes
    return build_chat(TensorRtModel(**row)).engine


class OnLookalike(EngineSuite):
    """The suite, for a row with these changes."""

    changes: dict[str, Any] = {}  # noqa: RUF012 - a test's constant

    @pytest.fixture
    def make(self, tiny_model: Path) -> MakeHarness:
        def build(*, max_sequences: int = 16, kv_blocks: int = 64) -> Harness:
            engine = engine_of(
                tiny_model, kv_blocks=kv_blocks, concurrency=max_sequences, **self.changes
            )
            return Harness(engine, partial(turn, "fail"), partial(turn, "fatal"))

        return build


class TestWithXgrammar(OnLookalike):
    changes = {"guided": "xgrammar"}  # noqa: RUF012


class TestWithLlguidanceAndPenalties(OnLookalike):
    changes = {  # noqa: RUF012
        "guided": "llguidance",
        "options": {"sampler_type": "TRTLLMSampler"},
    }
