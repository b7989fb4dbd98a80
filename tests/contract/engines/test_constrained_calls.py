"""A real engine held to calls in each format: random weights, so nothing is right by luck."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from services.inference.adapters.openvino.factory import build_chat
from services.inference.adapters.openvino.options import EngineOptions
from services.inference.adapters.tokenizer import FolderTokenizer
from services.inference.core.answering import Answer, Owner, Question
from services.inference.core.demands import Held
from services.inference.core.dialect import Dialect
from services.inference.core.generation import GenerationResult
from services.inference.core.toolcalls import ToolCall
from services.inference.handlers import EngineChat
from shared.contracts.agents import Sampling, ToolSpec
from shared.contracts.demands import Demands
from tests.contract.engines.schemas import random_arguments

pytestmark = pytest.mark.asyncio(loop_scope="module")
# what the model is shown of a tool has to leave room in its small context
SEEDS = [seed for seed in range(90) if len(json.dumps(random_arguments(seed))) < 300][:20]
FORCED = Demands(tool_choice="required", parallel_tool_calls=False)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chat(tiny_model: Path) -> AsyncIterator[EngineChat]:
    made = build_chat(tiny_model, EngineOptions(max_sequences=8))
    await made.start()
    yield made
    await made.close()


async def ask(chat: EngineChat, seed: int, name: str) -> tuple[GenerationResult, list[ToolCall]]:
    tool = ToolSpec(name="add", description="", parameters=random_arguments(seed), strict=True)
    question = Question(
        [{"role": "user", "content": f"number {seed}"}],
        Held(FORCED, [tool]),
        Sampling(temperature=1.0, seed=seed, max_tokens=600),
        Owner(f"{name}-{seed}", "t"),
    )
    answer = Answer(0.0, lambda: 0.0)
    told = [piece async for piece in chat.pieces(question, answer)]
    assert answer.result is not None
    assert question.held.unmet(answer.result) is None
    return answer.result, [piece for piece in told if isinstance(piece, ToolCall)]


@pytest.mark.parametrize("name", ["hermes", "llama3_json", "mistral", "qwen3_coder", "pythonic"])
async def test_forced_calls_meet_random_schemas(
    chat: EngineChat, tiny_model: Path, name: str
) -> None:
    dialect = Dialect(name)
    speaking = replace(chat, dialect=dialect, tokenizer=FolderTokenizer(tiny_model, dialect.marks))
    answers = await asyncio.gather(*(ask(speaking, seed, name) for seed in SEEDS))
    assert len(answers) == 20
    for result, calls in answers:
        assert (result.content, result.malformed) == ("", ())
        assert list(result.tool_calls) == calls
        assert [call.name for call in calls] == ["add"]
        assert result.finish_reason == "tool_calls"
