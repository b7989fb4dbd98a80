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
)


def check_request(request: GenerateRequest, info: EngineInfo) -> None:
    """Raise `InvalidRequest` or `ContextTooLong`."""
    prompt = request.prompt
    if not prompt:
        raise InvalidRequest("the prompt is empty", field="messages")
    if min(prompt) < 0 or max(prompt) >= info.vocabulary:
        raise InvalidRequest(f"a token id is outside 0..{info.vocabulary - 1}", field="messages")
    if request.max_tokens < 1:
        raise InvalidRequest("max_tokens must be at least 1", field="max_tokens")
    if request.logprobs < 0:
        raise InvalidRequest("logprobs must not be negative", field="logprobs")
    _check_sampling(request.sampling)
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
