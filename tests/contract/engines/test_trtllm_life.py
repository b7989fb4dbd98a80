"""What only the TensorRT-LLM engine promises, about its life and what it passes on."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.inference.adapters.engines import chat_model
from services.inference.adapters.trtllm.engine import TensorRtEngine
from services.inference.adapters.trtllm.factory import build_chat
from services.inference.core.blocks import block_names, overlap
from services.inference.core.demands import CallShape, Constraint
from services.inference.ports import (
    EngineBroken,
    EngineUnavailable,
    InvalidRequest,
    TellsPrefixes,
    UnsupportedDemand,
)
from shared.errors import Permanent
from shared.models import Adapter, TensorRtModel
from tests.contract.engines.engine_suite import answer, ask, until, words
from tests.contract.engines.lookalike import latest, lookalike, turn

BLOCK = 32
SILENCE = 0.4


@pytest.fixture(scope="module", autouse=True)
def library() -> Iterator[Any]:
    with lookalike() as package:
        yield package


def engine_of(folder: Path, **changes: Any) -> TensorRtEngine:
    row = {"path": str(folder), "context": 1024, "silence_s": SILENCE} | changes
    engine = build_chat(TensorRtModel(**row)).engine
    assert isinstance(engine, TensorRtEngine)
    engine._setup = replace(engine._setup, drain_s=SILENCE, shutdown_s=SILENCE)
    return engine


@asynccontextmanager
async def running(folder: Path, **changes: Any) -> AsyncIterator[TensorRtEngine]:
    engine = engine_of(folder, **changes)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()


@pytest.mark.parametrize("fault", ["hang", "fatal"])
async def test_an_engine_that_is_done_for_tells_everybody(tiny_model: Path, fault: str) -> None:
    async with running(tiny_model, concurrency=2) as engine:
        readers = [
            asyncio.create_task(answer(engine, ask(f"r{n}", words(n, 8), 900))) for n in range(3)
        ]
        await until(lambda: engine.stats().waiting == 1)
        turn(fault)
        ends = await asyncio.wait_for(asyncio.gather(*readers, return_exceptions=True), 5)
        assert [type(end) for end in ends] == [EngineBroken] * 3
        assert isinstance(engine.health(), EngineBroken)
        with pytest.raises(EngineBroken):
            await answer(engine, ask("later", words(1, 8)))
    assert isinstance(engine.health(), EngineBroken)  # closed, and still no engine to go on with


async def test_an_engine_that_cannot_be_closed_is_left_behind(tiny_model: Path) -> None:
    engine = engine_of(tiny_model)
    await engine.start()
    latest().rank.hung = True  # nothing else would tell
    await asyncio.wait_for(engine.close(), 5)
    assert isinstance(engine.health(), EngineBroken)
    await engine.close()


async def test_to_wait_for_others_is_no_silence(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_PACE", "0.01")
    async with running(tiny_model, concurrency=1) as engine:
        first = asyncio.create_task(answer(engine, ask("first", words(1, 8), 80)))
        await until(lambda: engine.stats().running == 1)
        waited = await answer(engine, ask("second", words(2, 8), 2))
        assert waited.finished.reason == (await first).finished.reason == "length"


async def test_to_have_nothing_to_do_is_no_silence(tiny_model: Path) -> None:
    async with running(tiny_model) as engine:
        await asyncio.sleep(SILENCE * 1.5)
        assert engine.health() is None
        assert (await answer(engine, ask("a", words(1, 8), 3))).finished.reason == "length"


async def test_a_reader_that_left_is_drained_even_when_the_engine_dies(tiny_model: Path) -> None:
    async with running(tiny_model) as engine:
        stream = engine.generate(ask("a", words(1, 8), 900))
        await anext(stream)
        turn("hang")
        await stream.aclose()
        await until(lambda: engine.stats().running == 0)


async def test_ready_is_an_engine_that_has_answered(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_FAULT", "hang")
    engine = engine_of(tiny_model, load_s=2.0)
    with pytest.raises(EngineBroken):
        await engine.start()
    await asyncio.wait_for(engine.close(), 5)
    monkeypatch.setenv("LOOKALIKE_FAULT", "fail")
    with pytest.raises(EngineBroken, match="the step failed"):
        await engine_of(tiny_model).start()


async def test_an_engine_that_dies_while_nobody_asks_is_found_out(tiny_model: Path) -> None:
    engine = engine_of(tiny_model)
    engine._setup = replace(engine._setup, probe_s=0.05)
    await engine.start()
    asked = len(latest().asked)
    await until(lambda: len(latest().asked) > asked + 1)
    assert engine.health() is None
    stats = engine.stats()
    assert (stats.running, stats.tokens_generated, stats.prompt_tokens) == (0, 0, 0)
    turn("hang")
    await until(lambda: isinstance(engine.health(), EngineBroken))
    await engine.close()


async def test_the_loop_goes_on_while_the_engine_is_built(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_LOAD", "0.5")
    engine = engine_of(tiny_model)
    starting = asyncio.create_task(engine.start())
    turns = 0
    while not starting.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert turns > 5
    await engine.close()


async def test_what_is_closed_while_it_is_built_is_closed_then(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_LOAD", "0.2")
    engine = engine_of(tiny_model)
    starting = asyncio.create_task(engine.start())
    await asyncio.sleep(0.05)
    await engine.close()
    with pytest.raises(EngineUnavailable):
        await starting
    assert latest()._stopped


async def test_a_build_without_end_is_broken(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_LOAD", "0.4")
    engine, before = engine_of(tiny_model, load_s=0.1), latest()
    with pytest.raises(EngineBroken):
        await engine.start()
    await engine.close()
    await until(lambda: latest() is not before)  # it goes on, and is of no use to anybody


async def test_what_the_constructor_raises_says_what_to_look_at(tiny_model: Path) -> None:
    engine = engine_of(tiny_model, options={"kv_cache_config": {"max_tokens": "many"}})
    with pytest.raises(Permanent) as refused:
        await engine.start()
    assert refused.value.code == "engine_not_loaded"


@pytest.mark.parametrize(
    ("options", "field", "says"),
    [
        ({"max_batchsize": 3}, "options.max_batchsize", "max_batch_size"),
        ({"max_batch_size": 3}, "options.max_batch_size", "`concurrency`"),
        ({"enable_chunked_prefill": False}, "options.enable_chunked_prefill", "worker decides"),
        ({"kv_cache_config": 7}, "options.kv_cache_config", "mapping"),
        ({"kv_cache_config": {"dtype": "fp8"}}, "options.kv_cache_config.dtype", "`kv_dtype`"),
        ({"kv_cache_config": {"blocks": 1}}, "options.kv_cache_config.blocks", "no such"),
    ],
)
async def test_a_wrong_option_is_named(
    tiny_model: Path, options: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(Permanent) as refused:
        await engine_of(tiny_model, options=options).start()
    assert (refused.value.code, refused.value.field) == ("invalid_models_file", field)
    assert says in refused.value.detail


async def test_options_and_parallelism_reach_the_constructor(tiny_model: Path) -> None:
    more = {"attn_backend": "FLASHINFER", "kv_cache_config": {"max_tokens": 2048}}
    async with running(tiny_model, tensor_parallel=4, expert_parallel=2, options=more):
        given = latest().arguments
    assert (given["tensor_parallel_size"], given["moe_expert_parallel_size"]) == (4, 2)
    assert given["attn_backend"] == "FLASHINFER"
    assert given["kv_cache_config"]["max_tokens"] == 2048
    assert given["kv_cache_config"]["enable_block_reuse"] is True


async def test_an_adapter_goes_with_every_request(tiny_model: Path) -> None:
    lora = Adapter(path=str(tiny_model), name="terse", rank=8)
    async with running(tiny_model, lora=lora) as engine:
        await answer(engine, ask("a", words(1, 8), 2))
        assert latest().arguments["lora_config"]["lora_dir"] == [str(tiny_model)]
        assert latest().asked[-1]["lora_request"].lora_name == "terse"


@pytest.mark.parametrize(("keep", "priority"), [("short", 5), ("usual", None), ("long", 80)])
async def test_how_long_a_prompt_is_worth_keeping_is_passed_on(
    tiny_model: Path, keep: str, priority: int | None
) -> None:
    async with running(tiny_model) as engine:
        await answer(engine, ask("a", words(1, 8), 2, keep=keep))
        config = latest().asked[-1]["kv_cache_retention_config"]
        if priority is None:
            assert config is None
        else:
            (whole,) = config.token_range_retention_configs
            assert (whole.token_start, whole.token_end, whole.priority) == (0, None, priority)
            assert config.decode_retention_priority == priority


async def test_nothing_is_kept_longer_where_that_cannot_be_said(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The classes for it are known from examples alone."""
    llmapi = sys.modules["tensorrt_llm.llmapi"]
    monkeypatch.setattr(llmapi, "KvCacheRetentionConfig", _raising(TypeError("other arguments")))
    async with running(tiny_model) as engine:
        said = await answer(engine, ask("a", words(1, 8), 2, keep="long"))
        assert said.finished.reason == "length"
        assert latest().asked[-1]["kv_cache_retention_config"] is None


async def test_an_adapter_that_is_not_there_is_named(tiny_model: Path) -> None:
    engine = engine_of(tiny_model, lora=Adapter(path=str(tiny_model / "nowhere")))
    with pytest.raises(Permanent) as refused:
        await engine.start()
    assert (refused.value.code, refused.value.field) == ("engine_not_loaded", "lora")


async def test_tenants_are_told_apart_by_their_salt(tiny_model: Path) -> None:
    async with running(tiny_model) as engine:
        await answer(engine, ask("a", words(1, 8), 2, cache_salt="acme"))
        assert latest().asked[-1]["cache_salt"] == "acme"


async def test_a_library_without_salts_is_refused(
    tiny_model: Path, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tenants would share a cache."""
    monkeypatch.setattr(library.LLM, "generate_async", lambda inputs, sampling_params, streaming: 0)
    with pytest.raises(Permanent, match="cache_salt") as refused:
        await engine_of(tiny_model).start()
    assert refused.value.code == "engine_mismatch"


@pytest.mark.parametrize(
    ("raised", "expected", "well"),
    [
        (ValueError("too long"), InvalidRequest, True),
        (NotImplementedError("no beams"), InvalidRequest, True),
        (RuntimeError("LLM is shutting down"), EngineUnavailable, False),
        (RuntimeError("CUDA out of memory"), EngineBroken, False),
    ],
)
async def test_what_is_raised_at_once_is_told_apart(
    tiny_model: Path,
    raised: Exception,
    expected: type[Exception],
    well: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(tiny_model) as engine:
        monkeypatch.setattr(latest().rank, "tell", _raising(raised))
        with pytest.raises(expected):
            await answer(engine, ask("a", words(1, 8)))
        assert (engine.health() is None) == well
        monkeypatch.undo()


def _raising(error: Exception) -> Any:
    def tell(*_: Any) -> None:
        raise error

    return tell


async def test_held_prefixes_are_named_after_their_tokens(tiny_model: Path) -> None:
    prompt, other = words(3, 3 * BLOCK + 5), words(4, 3 * BLOCK)
    async with running(tiny_model) as engine:
        assert isinstance(engine, TellsPrefixes)
        assert not engine.prefixes().blocks
        await answer(engine, ask("a", prompt, 4))
        names = block_names(prompt, BLOCK)
        await until(lambda: overlap(names, engine.prefixes().blocks) == 3)
        report = engine.prefixes()
        assert (report.complete, report.epoch, report.block_tokens) == (True, 0, BLOCK)
        assert overlap(block_names(other, BLOCK), report.blocks) == 0


async def test_blocks_that_had_to_go_are_held_no_more(tiny_model: Path) -> None:
    room = {"kv_cache_config": {"max_tokens": 6 * BLOCK}}
    async with running(tiny_model, options=room) as engine:
        first = words(3, 3 * BLOCK)
        await answer(engine, ask("a", first, 4))
        await until(lambda: overlap(block_names(first, BLOCK), engine.prefixes().blocks) == 3)
        await answer(engine, ask("b", words(4, 4 * BLOCK), 40))
        await until(lambda: overlap(block_names(first, BLOCK), engine.prefixes().blocks) == 0)
        stats = engine.stats()
        assert stats.blocks_free + stats.blocks_cached == stats.blocks_total == 6


async def test_a_forced_call_is_refused_where_nothing_would_hold_it(tiny_model: Path) -> None:
    call = Constraint(calls=(CallShape("add"),))
    async with running(tiny_model, guided="none") as engine:
        with pytest.raises(UnsupportedDemand):
            await answer(engine, ask("a", words(1, 8), constraint=call))


async def test_a_bad_schema_never_reaches_the_engine(tiny_model: Path) -> None:
    async with running(tiny_model) as engine:
        before = len(latest().asked)
        bad = Constraint(value='{"type": 7}', strict=True)
        with pytest.raises(InvalidRequest) as refused:
            await answer(engine, ask("a", words(1, 8), constraint=bad))
        assert refused.value.field == "constraint.value"
        assert len(latest().asked) == before


async def test_an_abort_while_the_schema_is_looked_at_counts(tiny_model: Path) -> None:
    async with running(tiny_model) as engine:
        request = ask("a", words(1, 8), 500, constraint=Constraint(value='{"type": "string"}'))
        reading = asyncio.create_task(answer(engine, request))
        await asyncio.sleep(0)
        await engine.abort("a")
        assert (await reading).finished.reason == "aborted"


async def test_a_missing_library_says_where_it_is(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorrt_llm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if not one.endswith("fakes")])
    with pytest.raises(Permanent) as refused:
        await engine_of(tiny_model).start()
    assert (refused.value.code, refused.value.field) == ("engine_missing", "engine")


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(Permanent) as refused:
        chat_model(TensorRtModel(path=str(tmp_path)), tmp_path, lambda _: None)
    assert (refused.value.code, refused.value.field) == ("model_incomplete", "path")


def test_a_folder_without_a_template_is_named(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "bare")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(Permanent) as refused:
        chat_model(TensorRtModel(path=str(folder)), tmp_path, lambda _: None)
    assert (refused.value.code, refused.value.field) == ("unsupported_model", "path")
