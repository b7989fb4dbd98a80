"""Owns the checks every engine makes before it works: what a model would accept and then answer
with nonsense, or never finish.

Must not know any engine; it knows a request and what a started engine said about itself.
"""

from __future__ import annotations

import math

from services.inference.ports import (
    ContextTooLong,
    EngineInfo,
    GenerateRequest,
    InvalidRequest,
    Sampling,
    UnsupportedDemand,
)


def check_request(request: GenerateRequest, info: EngineInfo) -> None:
    """Raise `InvalidRequest`, `UnsupportedDemand` or `ContextTooLong`."""
    prompt = request.prompt
    if not prompt:
        raise InvalidRequest("the prompt is empty", field="messages")
    if min(prompt) < 0 or max(prompt) >= info.vocabulary:
        raise InvalidRequest(f"a token id is outside 0..{info.vocabulary - 1}", field="messages")
    if request.max_tokens < 1:
        raise InvalidRequest("max_tokens must be at least 1", field="max_tokens")
    if request.logprobs is not None and request.logprobs < 0:
        raise InvalidRequest("logprobs must not be negative", field="logprobs")
    _check_sampling(request.sampling)
    _check_weights(request.sampling, info.vocabulary)
    _check_abilities(request, info)
    if len(prompt) + request.max_tokens > info.context_tokens:
        raise ContextTooLong(
            f"{len(prompt)} prompt tokens and {request.max_tokens} new ones exceed the context of "
            f"{info.context_tokens}"
        )


def _check_sampling(sampling: Sampling) -> None:
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise InvalidRequest("temperature must be 0 or more", field="temperature")
    if not 0 <= sampling.top_p <= 1:
        raise InvalidRequest("top_p must be between 0 and 1", field="top_p")
    if sampling.top_k < 0:
        raise InvalidRequest("top_k must not be negative", field="top_k")


def _check_weights(sampling: Sampling, vocabulary: int) -> None:
    for name in ("frequency_penalty", "presence_penalty"):
        if not math.isfinite(getattr(sampling, name)):
            raise InvalidRequest(f"{name} must be a finite number", field=name)
    for token, bias in sampling.logit_bias:
        if not 0 <= token < vocabulary:
            raise InvalidRequest(
                f"token {token} is outside 0..{vocabulary - 1}", field="logit_bias"
            )
        if not math.isfinite(bias):
            raise InvalidRequest("a bias must be a finite number", field="logit_bias")


def _check_abilities(request: GenerateRequest, info: EngineInfo) -> None:
    sampling = request.sampling
    penalty = "frequency_penalty" if sampling.frequency_penalty else "presence_penalty"
    wanted = (
        ("constraint", "constraint", request.constraint is not None),
        ("logprobs", "logprobs", request.logprobs is not None),
        ("penalties", "logit_bias" if sampling.logit_bias else penalty, sampling.weighs),
    )
    for ability, field, asked in wanted:
        if asked and ability not in info.abilities:
            raise UnsupportedDemand(f"the engine of {info.model} has no {ability}", field=field)
