"""What a request needs of whoever answers it, so that it comes to one that can."""

from __future__ import annotations

from collections.abc import Sequence

from shared.contracts.agents import Sampling, ToolSpec
from shared.contracts.demands import Demands

CONSTRAINT, LOGPROBS, PENALTIES = "constraint", "logprobs", "penalties"
UNTHINKING, EMBEDDINGS = "unthinking", "embeddings"
"""What not every engine can do (`WorkerState.abilities`): among them to answer without thinking."""


def needs_of(demands: Demands, sampling: Sampling, tools: Sequence[ToolSpec]) -> dict[str, str]:
    """The abilities that a request takes, each with the name of what asks for it."""
    found: dict[str, str] = {}
    if field := _constrained(demands, tools):
        found[CONSTRAINT] = field
    if demands.logprobs is not None:
        found[LOGPROBS] = "logprobs"
    if field := _weighed(sampling):
        found[PENALTIES] = field
    if demands.effort == "none":
        found[UNTHINKING] = "reasoning_effort"
    return found


def _constrained(demands: Demands, tools: Sequence[ToolSpec]) -> str:
    if demands.tool_choice in ("required", "function"):
        return "tool_choice"
    if demands.response_format.type != "text":
        return "response_format"
    strict = tools and demands.tool_choice != "none" and any(tool.strict for tool in tools)
    return "tools" if strict else ""


def _weighed(sampling: Sampling) -> str:
    if sampling.frequency_penalty:
        return "frequency_penalty"
    if sampling.presence_penalty:
        return "presence_penalty"
    return "logit_bias" if sampling.logit_bias else ""
