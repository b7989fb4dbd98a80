"""The embedded engine against the suite, and what only it promises."""

from __future__ import annotations

import asyncio
import json
import threading
from functools import partial
from os import listdir
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.inference.adapters.openvino.batch import StepBatch
from services.inference.adapters.openvino.engine import OpenVinoEngine
from services.inference.adapters.openvino.factory import build_chat
from services.inference.adapters.openvino.grammar import AnswerConstraint
from services.inference.adapters.openvino.model import PagedModel, StepModel
from services.inference.adapters.openvino.options import EngineOptions
from services.inference.adapters.tokenizer import FolderTokenizer
from services.inference.core.demands import Constraint
from services.inference.ports import EngineBroken, EngineUnavailable, InvalidRequest, Sampling
from tests.contract.engines.engine_suite import (
    EngineSuite,
    Harness,
    MakeHarness,
    answer,
    ask,
    started,
    until,
    words,
)
from tests.contract.engines.fallible import FallibleModel, Switches

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 999}, "k": {"enum": ["x"]}},
    "required": ["n", "k"],
    "additionalProperties": False,
}


def json_value(schema: str) -> Constraint:
    return Constraint(value=schema, strict=True)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> FolderTokenizer:
    return FolderTokenizer(tiny_model)


class TestOpenVinoEngine(EngineSuite):
    @pytest.fixture
    def make(self, tiny_model: Path, tokenizer: FolderTokenizer) -> MakeHarness:
        def build(*, max_sequences: int = 16, kv_blocks: int = 64) -> Harness:
            options = EngineOptions(
                max_sequences=max_sequences, kv_blocks=kv_blocks, batch_tokens=64
            )
            switches = Switches()
            engine = OpenVinoEngine(
                partial(switches.load, tiny_model, options),
                partial(AnswerConstraint, tokenizer.vendor, tokenizer.vocabulary),
                options,
            )
            return Harness(
                engine, partial(switches.turn, "failing"), partial(switches.turn, "buggy")
            )

        return build

    async def test_a_schema_makes_valid_compact_json(
        self, make: MakeHarness, tokenizer: FolderTokenizer
    ) -> None:
        async with started(make()) as (engine, _):
            request = ask(
                "a",
                words(1, 8),
                60,
                constraint=json_value(json.dumps(SCHEMA)),
                sampling=Sampling(seed=4),
            )
            said = await answer(engine, request)
            text = b"".join(map(tokenizer.decode, said.token_ids)).decode()
            value = json.loads(text)
            assert said.finished.reason == "stop"
            assert text == json.dumps(value, separators=(",", ":"))
            assert 0 <= value["n"] <= 999

    async def test_a_bad_schema_is_refused_alone(self, make: MakeHarness) -> None:
        async with started(make()) as (engine, _):
            good = asyncio.create_task(answer(engine, ask("good", words(1, 8), 40)))
            for n, schema in enumerate(("{", '{"type": 7}', '{"pattern": "(", "type": "string"}')):
                with pytest.raises(InvalidRequest) as refused:
                    await answer(engine, ask(f"bad{n}", words(2, 8), constraint=json_value(schema)))
                assert refused.value.field == "constraint.value"
            assert (await good).finished.reason == "length"

    async def test_a_schema_without_an_end_is_refused_alone(self, make: MakeHarness) -> None:
        again = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
        endless = ask("bad", words(2, 8), constraint=json_value(json.dumps(again)))
        async with started(make()) as (engine, _):
            good = asyncio.create_task(answer(engine, ask("good", words(1, 8), 40)))
            with pytest.raises(InvalidRequest) as refused:
                await answer(engine, endless)
            assert refused.value.field == "constraint.value"
            assert (await good).finished.reason == "length"
            assert engine.stats().running == 0

    async def test_an_abort_while_the_schema_is_compiled_counts(self, make: MakeHarness) -> None:
        async with started(make()) as (engine, _):
            request = ask("a", words(1, 8), 500, constraint=json_value('{"type": "string"}'))
            running = asyncio.create_task(answer(engine, request))
            await asyncio.sleep(0)
            await engine.abort("a")
            assert (await running).finished.reason == "aborted"


async def test_a_mixed_crowd_in_little_memory_says_what_each_says_alone(tiny_model: Path) -> None:
    """Aborts, preemption, prefix hits and bad requests at once; then every block is back."""
    random = np.random.default_rng(11)
    wanted = [ask(f"r{n}", words(n % 7, 20 + 9 * (n % 7)), 10 + 25 * (n % 3)) for n in range(50)]
    local = build_chat(tiny_model, EngineOptions(kv_blocks=12, max_sequences=6, batch_tokens=48))
    async with started(Harness(local.engine, lambda: None)) as (engine, info):
        alone = {r.request_id: (await answer(engine, r)).token_ids for r in wanted[:21]}

        async def one(number: int) -> None:
            await asyncio.sleep(float(random.random()) * 0.2)
            request = wanted[number]
            expected = alone[f"r{number % 21}"]
            shown: list[int] = []
            async for chunk in engine.generate(request):
                shown += chunk.token_ids
                if number % 5 == 0 and len(shown) == 4:
                    await engine.abort(request.request_id)
            assert tuple(shown) == expected[: len(shown)]
            assert len(shown) == len(expected) or number % 5 == 0

        await asyncio.gather(*map(one, range(50)))
        stats = engine.stats()
        assert (stats.running, stats.waiting) == (0, 0)
        assert stats.blocks_free + stats.blocks_cached == info.kv_blocks


async def test_a_step_that_does_not_end_breaks_the_engine(tiny_model: Path) -> None:
    """A device that hangs raises nothing: health tells, and close does not wait for ever."""
    begun, go_on = threading.Event(), threading.Event()

    class Hanging(FallibleModel):
        def infer(self, batch: StepBatch) -> NDArray[np.float32]:
            begun.set()
            go_on.wait(30)
            return super().infer(batch)

    options = EngineOptions(kv_blocks=8, step_limit_s=0.05, close_limit_s=0.1)
    engine = OpenVinoEngine(lambda: Hanging(PagedModel(tiny_model, options)), no_schema, options)
    try:
        await engine.start()
        assert engine.health() is None
        running = asyncio.create_task(answer(engine, ask("a", [30])))
        await asyncio.to_thread(begun.wait, 10)
        await until(lambda: engine.health() is not None)
        assert isinstance(engine.health(), EngineBroken)
        await asyncio.wait_for(engine.close(), 20)
        with pytest.raises(EngineBroken):
            await running
    finally:
        go_on.set()


async def test_a_failed_start_is_told_and_close_is_harmless(tmp_path: Path) -> None:
    def load() -> StepModel:
        raise FileNotFoundError("no safetensors file")

    engine = OpenVinoEngine(load, no_schema, EngineOptions())
    with pytest.raises(FileNotFoundError):
        await engine.start()
    await engine.close()
    with pytest.raises(EngineUnavailable):
        await answer(engine, ask("a", [30], 1))


@pytest.mark.parametrize("weights", ["f32", "f16", "int8"])
async def test_the_graph_is_cached_per_precision(
    tiny_model: Path, tmp_path: Path, weights: str
) -> None:
    options = EngineOptions(kv_blocks=8, weights=weights, cache_dir=tmp_path)  # type: ignore[arg-type]  # parametrized literal
    said = []
    for _ in range(2):
        local = build_chat(tiny_model, options)
        async with started(Harness(local.engine, lambda: None)) as (engine, _info):
            said.append((await answer(engine, ask("a", words(3, 40)))).token_ids)
    assert said[0] == said[1]
    assert [name.startswith(f"tiny-{weights}-") for name in listdir(tmp_path)] == [True]


def no_schema(schema: Constraint) -> AnswerConstraint:
    raise InvalidRequest(f"no schema in this test: {schema}")
