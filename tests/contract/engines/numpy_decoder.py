"""Owns a second opinion: the dense decoder in plain numpy, float64, no cache, no cleverness.

Written from the model family's definition and not from our graph, so that both agreeing means
something. Slow and small on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def logits(config: Mapping[str, Any], weights: Mapping[str, Array], ids: Sequence[int]) -> Array:
    """The logits after the last token."""
    x = weights["model.embed_tokens.weight"][list(ids)]
    for layer in range(config["num_hidden_layers"]):
        part = f"model.layers.{layer}."
        w = {k.removeprefix(part): v for k, v in weights.items() if k.startswith(part)}
        x = x + _attention(config, w, _norm(config, x, w["input_layernorm.weight"]))
        h = _norm(config, x, w["post_attention_layernorm.weight"])
        gate = h @ w["mlp.gate_proj.weight"].T
        up = h @ w["mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w["mlp.down_proj.weight"].T
    head = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
    result: Array = _norm(config, x, weights["model.norm.weight"])[-1] @ head.T
    return result


def _norm(config: Mapping[str, Any], x: Array, weight: Array) -> Array:
    mean = (x**2).mean(-1, keepdims=True)
    normed: Array = x / np.sqrt(mean + config["rms_norm_eps"]) * weight
    return normed


def _attention(config: Mapping[str, Any], w: Mapping[str, Array], h: Array) -> Array:
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    width, length = config["head_dim"], len(h)

    def project(kind: str, count: int) -> Array:
        flat = h @ w[f"self_attn.{kind}_proj.weight"].T + w.get(f"self_attn.{kind}_proj.bias", 0)
        split = flat.reshape(length, count, width).transpose(1, 0, 2)
        norm = w.get(f"self_attn.{kind}_norm.weight")
        return split if norm is None else _norm(config, split, norm)

    query = _turned(config, project("q", heads))
    key = _turned(config, project("k", groups)).repeat(heads // groups, 0)
    value = project("v", groups).repeat(heads // groups, 0)
    scores = query @ key.transpose(0, 2, 1) / np.sqrt(width)
    scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
    share = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = share / share.sum(-1, keepdims=True) @ value
    out: Array = mixed.transpose(1, 0, 2).reshape(length, -1) @ w["self_attn.o_proj.weight"].T
    return out


def _turned(config: Mapping[str, Any], x: Array) -> Array:
    """Rotary position: pairs are (i, i + width / 2), a complex number each."""
    half = config["head_dim"] // 2
    angles = np.outer(np.arange(x.shape[1]), _speeds(config))
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], -1)


def _speeds(config: Mapping[str, Any]) -> Array:
    half = config["head_dim"] // 2
    speeds = np.array([config["rope_theta"] ** (-i / half) for i in range(half)])
    scaling = config.get("rope_scaling")
    if not scaling:
        return speeds
    for i, speed in enumerate(speeds):
        turns = scaling["original_max_position_embeddings"] * speed / (2 * np.pi)
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        keep = min(1.0, max(0.0, (turns - low) / (high - low)))
        speeds[i] = keep * speed + (1 - keep) * speed / scaling["factor"]
    return speeds
