"""What stands in a span: names of OpenTelemetry's GenAI conventions, and ours. Pure.

The names are written out, because the package that has them calls this part of itself incubating
and moves it. What was said is left out unless `content` asks for it: a trace is read by others than
a conversation is.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from shared.contracts import facts as f
from shared.contracts.base import SessionRef
from shared.contracts.tasks import TaskSubmitted, said
from shared.trace import Value

PROVIDER = "millrace"
Attributes = dict[str, Value]


@dataclass(frozen=True, slots=True)
class About:
    """The task that all spans of a trace are about. `content` is whether words may be shown."""

    ref: SessionRef
    task: str
    agent: str
    accepted: f.Accepted | None = None
    content: bool = False

    def base(self, step: int | None = None) -> Attributes:
        """What every span of the task has."""
        found: Attributes = {
            "gen_ai.conversation.id": self.ref.session,
            "millrace.tenant": self.ref.tenant,
            "millrace.task": self.task,
        }
        if step is not None:
            found["millrace.step"] = step
        return found


def of_task(about: About, done: f.Done, submitted: TaskSubmitted | None) -> Attributes:
    """Of `invoke_agent`: the whole of a task, with its sums."""
    totals = done.totals
    found = about.base() | {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.agent.name": about.agent,
        "gen_ai.usage.input_tokens": totals.usage.input,
        "gen_ai.usage.output_tokens": totals.usage.output,
        "millrace.status": done.status,
        "millrace.steps": totals.steps,
        "millrace.price": totals.price,
    }
    if about.accepted is not None:
        found["gen_ai.agent.version"] = str(about.accepted.revision)
    if done.joined:
        found["millrace.joined"] = done.joined
    if about.content and submitted is not None:
        found["gen_ai.input.messages"] = _messages("user", said(submitted))
    if about.content and done.output:
        found["gen_ai.output.messages"] = _messages("assistant", done.output)
    return found


def of_answer(about: About, fact: f.Inferred) -> Attributes:
    """Of `chat`: a model call that was answered."""
    usage, timings = fact.usage, fact.timings
    found = of_call(about, fact.step, fact.attempt, fact.model, fact.worker) | {
        "gen_ai.response.model": fact.model,
        "gen_ai.response.finish_reasons": (fact.finish,),
        "gen_ai.usage.input_tokens": usage.input,
        "gen_ai.usage.output_tokens": usage.output,
        "gen_ai.usage.cache_read.input_tokens": usage.cached,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning,
        "gen_ai.response.time_to_first_chunk": timings.first_token_ms / 1000,
        "millrace.queued_ms": timings.queued_ms,
        "millrace.price": fact.price,
        "millrace.cached": fact.cached,
    }
    if about.content:
        found["gen_ai.output.messages"] = _said_by_model(fact)
    return found


def of_call(about: About, step: int, attempt: int, model: str, worker: str) -> Attributes:
    """Of any attempt at a model call."""
    found = about.base(step) | {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.agent.name": about.agent,
        "millrace.attempt": attempt,
    }
    if model:
        found["gen_ai.request.model"] = model
    if worker:
        found["millrace.worker"] = worker
    return found | _sampling(about)


def _sampling(about: About) -> Attributes:
    if about.accepted is None:
        return {}
    sampling = about.accepted.sampling
    asked = {
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.max_tokens": sampling.max_tokens,
        "gen_ai.request.seed": sampling.seed,
    }
    return {name: value for name, value in asked.items() if value is not None}


def of_tool(
    about: About, fact: f.ToolDone | f.ToolFailed, call: f.ToolCall | None, attempt: int
) -> Attributes:
    """Of `execute_tool`: a tool call, or an attempt at one."""
    found = about.base(fact.step) | {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": fact.name,
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": fact.call,
        "millrace.attempt": attempt,
    }
    if about.content and call is not None:
        found["gen_ai.tool.call.arguments"] = call.arguments
    if about.content and isinstance(fact, f.ToolDone):
        found["gen_ai.tool.call.result"] = fact.result
    return found


def of_leg(about: About, step: int, leg: f.Leg) -> Attributes:
    """Of what a tool asked of another service."""
    found = about.base(step) | {"gen_ai.operation.name": leg.name}
    for name, value in leg.figures.items():
        known = {"collection": "gen_ai.data_source.id"}
        found[known.get(name, f"millrace.{leg.name}.{name}")] = value
    return found


def _messages(role: str, text: str) -> str:
    return _json([{"role": role, "parts": [{"type": "text", "content": text}]}])


def _said_by_model(fact: f.Inferred) -> str:
    parts: list[dict[str, object]] = []
    if fact.content:
        parts.append({"type": "text", "content": fact.content})
    parts += [
        {"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments}
        for call in fact.tool_calls
    ]
    return _json([{"role": "assistant", "parts": parts, "finish_reason": fact.finish}])


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
