"""The graph we build computes what the model family defines, for every family we accept."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.inference.adapters.openvino import vendor
from services.inference.adapters.openvino.factory import build_chat
from services.inference.adapters.openvino.options import EngineOptions
from services.inference.adapters.openvino.safetensors import Weights
from services.inference.adapters.openvino.shape import UnsupportedModel, read_shape
from tests.contract.engines.engine_suite import Harness, ask, chunks_of, started, words
from tests.contract.engines.numpy_decoder import logits
from tests.contract.engines.tiny_model import build_tiny_model

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-f16": {"torch_dtype": "float16"},
    "llama3-rope": {"rope_scaling": LLAMA3, "tie_word_embeddings": False},
    "mistral": {"model_type": "mistral", "sliding_window": None, "num_attention_heads": 4},
    "qwen2": {"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 8},
    "qwen3": {"model_type": "qwen3", "num_key_value_heads": 2},
}


@pytest.mark.parametrize("family", FAMILIES)
async def test_next_token_and_its_logprob_agree_with_numpy(tmp_path: Path, family: str) -> None:
    folder = build_tiny_model(tmp_path / family, **FAMILIES[family])
    config = json.loads((folder / "config.json").read_text())
    stored = Weights(folder)
    weights = {name: stored.f32(name).astype(np.float64) for name in stored.names()}
    prompt = words(3, 70)  # two chunks and a bit, beyond the short wavelengths
    local = build_chat(folder, EngineOptions(kv_blocks=16, batch_tokens=32))
    async with started(Harness(local.engine, lambda: None)) as (engine, _):
        chunks = await chunks_of(engine, ask("a", prompt, 6, logprobs=1))
    for chunk in chunks:
        row = logits(config, weights, prompt)
        expected = row - row.max()
        expected -= np.log(np.exp(expected).sum())
        assert chunk.token_ids == (int(row.argmax()),)
        assert chunk.logprobs[0].logprob == pytest.approx(expected.max(), abs=1e-4)
        prompt += chunk.token_ids


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "mixtral"},
        {"hidden_act": "gelu"},
        {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
    ],
)
def test_what_cannot_be_built_is_refused(tiny_model: Path, change: dict[str, Any]) -> None:
    config = json.loads((tiny_model / "config.json").read_text())
    with pytest.raises(UnsupportedModel):
        read_shape(config | change)


def test_a_sliding_window_ends_the_context(tiny_model: Path) -> None:
    config = json.loads((tiny_model / "config.json").read_text())
    assert read_shape(config | {"sliding_window": 128}).context == 128


def test_openvino_is_imported_without_its_telemetry() -> None:
    assert vendor.VERSION
    assert sys.modules["openvino_telemetry"] is None
