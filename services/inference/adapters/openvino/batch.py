"""Owns the tensors of one step in the layout of OpenVINO's paged attention.

Must not know requests, scheduling or OpenVINO itself: numpy in, numpy out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.inference.adapters.openvino.scheduler import Slice

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


class StepBatch(NamedTuple):
    """The fields are the model's input names."""

    input_ids: Int64
    position_ids: Int64
    past_lens: Int32
    subsequence_begins: Int32
    block_indices: Int32
    block_indices_begins: Int32
    max_context_len: Int32
    sampled_tokens_indices: Int64


def assemble(slices: Sequence[Slice], block_tokens: int) -> StepBatch:
    """Lay the slices one behind the other; logits are wanted for those that reach their end."""
    counts = [part.length for part in slices]
    begins = _begins(counts)
    used = [-(-(part.start + part.length) // block_tokens) for part in slices]
    ids: list[int] = []
    positions: list[int] = []
    blocks: list[int] = []
    for part, held in zip(slices, used, strict=True):
        end = part.start + part.length
        ids += part.sequence.ids[part.start : end]
        positions += range(part.start, end)
        blocks += part.sequence.blocks[:held]
    sampled = [begins[i + 1] - 1 for i, part in enumerate(slices) if part.samples]
    return StepBatch(
        input_ids=np.array(ids, np.int64),
        position_ids=np.array(positions, np.int64),
        past_lens=np.array([part.start for part in slices], np.int32),
        subsequence_begins=begins,
        block_indices=np.array(blocks, np.int32),
        block_indices_begins=_begins(used),
        max_context_len=np.array(max(p.start + p.length for p in slices), np.int32),
        sampled_tokens_indices=np.array(sampled, np.int64),
    )


def _begins(counts: Sequence[int]) -> Int32:
    begins = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=begins[1:])
    return begins
