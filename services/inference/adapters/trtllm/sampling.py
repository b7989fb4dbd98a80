"""Owns how a request is said to TensorRT-LLM, and how its answers are read. Must not know loops.

Parameters are made anew for each request: the library changes them.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.inference.adapters.trtllm.library import Completion, Logprob, Result
from services.inference.core.generation import EngineFinish, TokenUsage
from services.inference.ports import (
    EngineChunk,
    EngineFailed,
    EngineFinished,
    GenerateRequest,
    Sampling,
    TokenLogprob,
)

_NO_END = -1
"""An id that no token has: nothing ends the answer but its length."""
_ENDS: dict[str, EngineFinish] = {"stop": "stop", "length": "length", "cancelled": "aborted"}
_SEEDS = 2**63


def sampling_fields(
    request: GenerateRequest, eos: int | None, vocabulary: int
) -> dict[str, object]:
    """The fields of `SamplingParams` but for the constraint. `eos` is the engine's own end token.

    A grammar ends with that one, so a constrained answer has it as its end, asked for or not.
    """
    end = eos if request.constraint is not None or eos in request.stop_token_ids else None
    fields: dict[str, object] = {
        "end_id": _NO_END if end is None else end,
        "pad_id": eos or 0,
        "max_tokens": request.max_tokens,
        "stop_token_ids": sorted(request.stop_token_ids - {end}) or None,
        "detokenize": False,
        "add_special_tokens": False,
        **_choice(request.sampling),
    }
    if request.logprobs is not None:
        fields["logprobs"] = max(request.logprobs, 1)  # 0 is none at all in 1.2
    if request.sampling.weighs:
        fields |= _weights(request.sampling, vocabulary)
    return fields


def _choice(sampling: Sampling) -> dict[str, object]:
    """Greedy is what is left when nothing is said of it."""
    if sampling.temperature <= 0 or sampling.top_p <= 0:
        return {}
    found: dict[str, object] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
    }
    if sampling.seed is not None:
        found["seed"] = sampling.seed % _SEEDS
    return found


def _weights(sampling: Sampling, vocabulary: int) -> dict[str, object]:
    found: dict[str, object] = {}
    if sampling.frequency_penalty:
        found["frequency_penalty"] = sampling.frequency_penalty
    if sampling.presence_penalty:
        found["presence_penalty"] = sampling.presence_penalty
    if sampling.logit_bias:
        bias = [0.0] * vocabulary
        for token, value in sampling.logit_bias:
            bias[token] += value
        found["embedding_bias"] = bias
    return found


class Reader:
    """Reads one request's result, step by step: what is new in it is what comes behind `shown`."""

    def __init__(self, request: GenerateRequest, eos: int | None, block_tokens: int) -> None:
        self._request = request
        self._ends = request.stop_token_ids | ({eos} if eos is not None else frozenset())
        self._block_tokens = block_tokens
        self.shown = 0

    def read(self, result: Result) -> EngineChunk:
        """The chunk of the step that just came.

        Raises:
            EngineFailed: the engine ended it in a way that is no answer.
        """
        output = result.outputs[0]
        reason = output.finish_reason
        fresh = list(output.token_ids[self.shown :])
        if reason == "stop" and fresh and fresh[-1] in self._ends:
            fresh.pop()  # whether the engine shows it depends on its version
        logprobs = self._logprobs(output, fresh)
        self.shown += len(fresh)
        finished = None if reason is None else self._finished(result, reason)
        return EngineChunk(tuple(fresh), logprobs, finished)

    def _finished(self, result: Result, reason: str) -> EngineFinished:
        if reason not in _ENDS:
            raise EngineFailed(f"the engine ended the request with {reason!r}")
        completion = self.shown + (reason == "stop")
        cached = min(self._cached(result), len(self._request.prompt))
        usage = TokenUsage(len(self._request.prompt), completion, cached)
        return EngineFinished(_ENDS[reason], usage)

    def _cached(self, result: Result) -> int:
        """1.2 counts in tokens, or only in blocks: whichever says something."""
        if result.cached_tokens:
            return result.cached_tokens
        metrics = result.outputs[0].request_perf_metrics
        if metrics is None:
            return 0
        return metrics.kv_cache_metrics.num_reused_blocks * self._block_tokens

    def _logprobs(self, output: Completion, fresh: list[int]) -> tuple[TokenLogprob, ...]:
        if self._request.logprobs is None:
            return ()
        entries = output.logprobs[self.shown : self.shown + len(fresh)]
        wanted = self._request.logprobs
        return tuple(
            _entry(token, entry, wanted) for token, entry in zip(fresh, entries, strict=False)
        )


def _entry(token: int, entry: Mapping[int, Logprob] | float, wanted: int) -> TokenLogprob:
    if isinstance(entry, int | float):
        return TokenLogprob(token, entry, ((token, entry),)[:wanted])
    best = sorted(((one, found.logprob) for one, found in entry.items()), key=lambda one: -one[1])
    chosen = entry[token].logprob if token in entry else best[-1][1]
    return TokenLogprob(token, chosen, tuple(best[:wanted]))
