"""Owns what a Hugging Face config.json says about a dense decoder, and which ones we can build.

Must not know OpenVINO or weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.errors import Permanent

FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})


class UnsupportedModel(Permanent):
    """The folder holds a model this engine cannot run; the detail says why."""

    def __init__(self, detail: str) -> None:
        super().__init__("unsupported_model", detail, field="path")


class DecoderShape(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of a Llama-like decoder."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    epsilon: float
    rope: Mapping[str, Any]


def read_shape(config: Mapping[str, Any]) -> DecoderShape:
    """Check the configuration and take the sizes; raises `UnsupportedModel`."""
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UnsupportedModel(f"model_type {family!r} is not one of {sorted(FAMILIES)}")
    if config.get("hidden_act", "silu") != "silu":
        raise UnsupportedModel(f"hidden_act {config['hidden_act']!r} is not silu")
    heads = config["num_attention_heads"]
    return DecoderShape(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        vocabulary=config["vocab_size"],
        context=_context(config),
        epsilon=config["rms_norm_eps"],
        rope=_rope(config),
    )


def inverse_frequencies(shape: DecoderShape) -> NDArray[np.float32]:
    """Rotary frequencies of one head, with Llama 3 scaling where the model has it."""
    exponents = np.arange(0, shape.head_dim, 2, dtype=np.float32) / shape.head_dim
    plain: NDArray[np.float32] = (1.0 / shape.rope["theta"] ** exponents).astype(np.float32)
    if shape.rope["kind"] == "default":
        return plain
    factor, low, high = (shape.rope[k] for k in ("factor", "low_freq_factor", "high_freq_factor"))
    trained = shape.rope["original_max_position_embeddings"]
    wavelength = 2 * np.pi / plain
    blend = (trained / wavelength - low) / (high - low)
    middle = (1 - blend) * plain / factor + blend * plain
    scaled = np.where(wavelength < trained / high, plain, middle)
    wanted = np.where(wavelength > trained / low, plain / factor, scaled)
    return np.asarray(wanted, np.float32)


def _context(config: Mapping[str, Any]) -> int:
    """A sliding window is not built, so the context ends where it would begin to slide."""
    context: int = config["max_position_embeddings"]
    window = config.get("sliding_window")
    if window and config.get("use_sliding_window", True):
        return min(context, int(window))
    return context


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    scaling = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in {"default", "llama3"}:
        raise UnsupportedModel(f"rope scaling {kind!r} is not built")
    theta = config.get("rope_theta") or scaling.get("rope_theta") or 10_000.0
    return {**scaling, "kind": kind, "theta": float(theta)}
