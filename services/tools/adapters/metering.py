"""Counts what the tools do. A name that no tool has is the model's invention, and not a label."""

from __future__ import annotations

from collections.abc import Iterable

from shared.contracts.base import Message
from shared.contracts.facts import ToolDone, ToolFailed
from shared.metrics.catalogue import STEP_SECONDS, TOOL_CALLS, TOOL_SECONDS

UNKNOWN = "unknown"


def show(tools: Iterable[str]) -> None:
    """Have everything about these tools there from the start, at 0."""
    STEP_SECONDS.show("tool")
    for tool in tools:
        TOOL_SECONDS.show(tool)
        for outcome in ("ok", "failed"):
            TOOL_CALLS.show(tool, outcome)


def ran(facts: Iterable[Message]) -> None:
    """A call came to this."""
    for fact in facts:
        if not isinstance(fact, ToolDone | ToolFailed):
            continue
        tool, outcome = fact.name, "ok"
        if isinstance(fact, ToolFailed):
            tool, outcome = UNKNOWN if fact.error.code == "unknown_tool" else tool, "failed"
        TOOL_CALLS.add(tool, outcome)
        TOOL_SECONDS.observe(fact.duration_ms / 1e3, tool)
        STEP_SECONDS.observe(fact.duration_ms / 1e3, "tool")
