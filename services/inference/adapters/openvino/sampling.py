"""Owns the choice of one token from one row of logits, and its log-probability.

Must not know requests or models; randomness comes in as a generator.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from services.inference.ports import Sampling, TokenLogprob

Row = NDArray[np.float32]


def weighed(row: Row, sampling: Sampling, counts: Mapping[int, int]) -> Row:
    """The row with penalties and biases on it; `counts` is what the answer holds so far."""
    if not sampling.weighs:
        return row
    changed = row.copy()
    if counts and (sampling.frequency_penalty or sampling.presence_penalty):
        seen = np.fromiter(counts.keys(), np.int64, len(counts))
        often = np.fromiter(counts.values(), np.float32, len(counts))
        changed[seen] -= sampling.frequency_penalty * often + sampling.presence_penalty
    for token, bias in sampling.logit_bias:
        changed[token] += bias
    return changed


def choose(row: Row, sampling: Sampling, random: np.random.Generator | None) -> int:
    """The next token. Minus infinity marks tokens that may not be chosen."""
    if sampling.temperature <= 0 or random is None:
        return int(row.argmax())
    scores = row.astype(np.float64) / sampling.temperature
    if 0 < sampling.top_k < scores.size:
        scores[scores < np.partition(scores, -sampling.top_k)[-sampling.top_k]] = -np.inf
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    if sampling.top_p < 1:
        weights = _nucleus(weights, sampling.top_p)
    drawn = int(np.searchsorted(np.cumsum(weights), random.random(), side="right"))
    # Rounding may leave the sum below 1: fall back to the last token that has any weight.
    return drawn if drawn < weights.size else int(np.flatnonzero(weights)[-1])


def logprob(row: Row, token_id: int, alternatives: int) -> TokenLogprob:
    """From the model's own distribution, before temperature and masks."""
    shifted = row - row.max()
    logs = shifted - np.log(np.exp(shifted).sum())
    count = min(alternatives, logs.size)
    best = np.argpartition(-logs, count - 1)[:count] if count else np.empty(0, np.int64)
    ordered = best[np.argsort(-logs[best], kind="stable")]
    top = tuple((int(token), float(logs[token])) for token in ordered)
    return TokenLogprob(token_id, float(logs[token_id]), top)


def _nucleus(weights: NDArray[np.float64], top_p: float) -> NDArray[np.float64]:
    """The fewest tokens that together have at least `top_p`, and always one."""
    order = np.argsort(-weights, kind="stable")
    cut = int(np.searchsorted(np.cumsum(weights[order]), top_p)) + 1
    kept = np.zeros_like(weights)
    kept[order[:cut]] = weights[order[:cut]]
    return kept / kept.sum()
