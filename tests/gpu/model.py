"""The model that the tests of this folder use."""

from __future__ import annotations

import os
from pathlib import Path

from shared.models import TensorRtModel

VARIABLE = "MILLRACE_GPU_MODEL"
FOLDER = Path(os.environ.get(VARIABLE, ""))  # noqa: TID251 - a test's own setting
BLOCK, CONTEXT = 32, 1024


def row(concurrency: int, kv_blocks: int) -> TensorRtModel:
    """The model with so many slots and blocks."""
    return TensorRtModel(
        path=str(FOLDER),
        context=CONTEXT,
        concurrency=concurrency,
        block_tokens=BLOCK,
        options={"kv_cache_config": {"max_tokens": kv_blocks * BLOCK}},
    )
