"""Owns the knobs of the embedded engine as one frozen value. Must not know what they do."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

Precision = Literal["f32", "f16", "int8"]


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The defaults give the same tokens whatever the batch, on every machine.

    f32 compute and f32 cache are what makes batched, preempted and prefix-cached runs equal to a
    run alone; one thread is as fast as two for small models and immune to noisy neighbours.
    `weights` is how weights are kept in memory. `cache_dir` None builds the graph at every start.
    A step that takes longer than `step_limit_s` never ends: the engine counts as broken then, and
    `close_limit_s` is how long its end is waited for.
    """

    max_sequences: int = 16
    kv_blocks: int = 512
    batch_tokens: int = 256
    prefix_cache: bool = True
    weights: Precision = "f32"
    inference_precision: str = "f32"
    kv_precision: str = "f32"
    threads: int = 1
    cache_dir: Path | None = None
    step_limit_s: float = 120.0
    close_limit_s: float = 3.0
