"""Owns the shapes between contracts and the chat template: what goes in, what is said about it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from services.inference.core.generation import GenerationResult
from services.inference.core.toolcalls import ToolCall
from shared.contracts import agents, facts
from shared.contracts.base import call_id
from shared.contracts.work import ChatMessage, Target
from shared.models import cost

Json = dict[str, object]


def content_of(result: GenerationResult) -> str:
    """The text; what looked like a call and was none is shown as it stood, not swallowed."""
    if result.tool_calls:
        return result.content
    return result.content + "".join(bad.text for bad in result.malformed)


def calls_of(base: str, result: GenerationResult) -> tuple[facts.ToolCall, ...]:
    """The calls, named after `base`."""
    return tuple(call_of(base, call) for call in result.tool_calls)


def call_of(base: str, call: ToolCall) -> facts.ToolCall:
    """A call with an id derived from `base`, so that a repeated step names it alike."""
    digest = hashlib.blake2b(f"{base}/{call.index}".encode(), digest_size=12)
    return facts.ToolCall(
        id=f"call_{digest.hexdigest()}", name=call.name, arguments=call.raw_arguments
    )


def step_calls(task: str, step: int, result: GenerationResult) -> tuple[facts.ToolCall, ...]:
    """The calls of a task's step: whoever comes back with a result finds the task by the id."""
    return tuple(
        facts.ToolCall(
            id=call_id(task, step, call.index), name=call.name, arguments=call.raw_arguments
        )
        for call in result.tool_calls
    )


def price_of(target: Target | None, usage: facts.Usage) -> int:
    """Millionths of a cent, at the prices that the router put on the work."""
    if target is None:
        return 0
    cached = target.input_price if target.cached_price is None else target.cached_price
    return cost(
        (usage.input - usage.cached, target.input_price),
        (usage.cached, cached),
        (usage.output, target.output_price),
    )


def function_of(spec: agents.ToolSpec) -> Json:
    """A tool as chat templates expect it (the OpenAI shape)."""
    return {
        "type": "function",
        "function": {
            "name": spec.name,
            "description": spec.description,
            "parameters": spec.parameters,
        },
    }


def message_of(message: ChatMessage) -> Json:
    """A message of a stateless completion, without what it does not have."""
    names = ("role", "content", "tool_calls", "tool_call_id", "name")
    return {name: value for name in names if (value := getattr(message, name))}


def thoughts_of(messages: Sequence[ChatMessage]) -> dict[int, str]:
    """What was thought in the turn that goes on, by the place of the message that it led to."""
    said = [place for place, message in enumerate(messages) if message.role == "user"]
    first = said[-1] if said else -1
    return {
        place: message.reasoning
        for place, message in enumerate(messages)
        if place > first and message.role == "assistant" and message.reasoning
    }
