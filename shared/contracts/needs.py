"""What a request needs of whoever answers it, so that it comes to one that can."""

from __future__ import annotations

from collections.abc import Sequence

from shared.contracts.agents import Sampling, ToolSpec
from shared.contracts.demands import Demands

CONSTRAINT, LOGPROBS, PENALTIES = "constraint", "logprobs", "penalties"
"""What not every engine can do (`WorkerState.abilities`)."""


def needs_of(demands: Demands, sampling: Sampling, tools: Sequence[ToolSpec]) -> dict[str, str]:
    """The abilities that a request takes, each with the name of what asks for it."""
    found = {
        CONSTRAINT: _constrained(demands, tools),
        LOGPROBS: None if demands.logprobs is None else "logprobs",
        PENALTIES: _weighed(sampling),
    }
    return {ability: field for ability, field in found.items() if field is not None}


def _constrained(demands: Demands, tools: Sequence[ToolSpec]) -> str | None:
    if demands.tool_choice in ("required", "function"):
        return "tool_choice"
    if demands.response_format.type != "text":
        return "response_format"
    strict = demands.tool_choice != "none" and any(tool.strict for tool in tools)
    return "tools" if strict else None


def _weighed(sampling: Sampling) -> str | None:
    names = ("frequency_penalty", "presence_penalty", "logit_bias")
    return next((name for name in names if getattr(sampling, name)), None)
