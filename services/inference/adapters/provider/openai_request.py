"""Owns a question in OpenAI's words. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from services.inference.core.answering import Json, Question
from services.inference.core.answers import function_of
from services.inference.core.demands import Held
from services.inference.ports import Ability, InvalidRequest, UnsupportedDemand
from shared.contracts.agents import Effort, Sampling, ToolSpec
from shared.models import Lack, ProviderModel

TEMPLATE = "chat_template_kwargs"
"""vLLM's and SGLang's way to the variables of a model's template."""
_LEFT_OUT: frozenset[Lack] = frozenset(("temperature", "top_p"))
"""Every request has them, whoever asked: what cannot take them decides for itself."""


def chat_request(row: ProviderModel, question: Question) -> Json:
    """The body of `POST /chat/completions`.

    Raises:
        Permanent: `unsupported_demand`, `invalid_request`.
    """
    held, sampling = question.held, question.sampling
    check_meaning(question)
    held.constraint()  # a call that is demanded of a tool that is not there
    asked = dict(_asked(held, sampling))
    check_lacks(row, asked)
    check_thinking(row, held.demands.effort)
    limit = row.limit_field or ("max_tokens" if row.base_url else "max_completion_tokens")
    return {
        "model": row.name,
        "messages": [_message(one) for one in question.messages],
        limit: answer_limit(row, sampling),
        "stream": True,
        "stream_options": {"include_usage": True},
        **{name: value for name, value in asked.items() if name not in row.without},
        **row.extra_body,
        **_thinking(row, held.demands.effort),
    }


def answer_limit(row: ProviderModel, sampling: Sampling) -> int:
    """How many tokens the answer may have."""
    return min(sampling.max_tokens, row.max_output or row.context, row.context)


def check_meaning(question: Question) -> None:
    """Refuse what means nothing, before somebody is paid for saying so.

    Raises:
        Permanent: `invalid_request`.
    """
    sampling = question.sampling
    if not question.messages:
        raise InvalidRequest("there is no message", field="messages")
    bounds = (
        ("temperature", 0.0, math.inf),
        ("top_p", 0.0, 1.0),
        ("top_k", 0, math.inf),
        ("max_tokens", 1, math.inf),
        ("frequency_penalty", -math.inf, math.inf),
        ("presence_penalty", -math.inf, math.inf),
    )
    for field, least, most in bounds:
        value = getattr(sampling, field)
        if not (math.isfinite(value) and least <= value <= most):
            raise InvalidRequest(f"{field} must be {least:g} to {most:g}", field=field)


def check_lacks(row: ProviderModel, asked: Mapping[str, object]) -> None:
    """Refuse what the endpoint does not have, by the request's name for it.

    Raises:
        Permanent: `unsupported_demand`.
    """
    for field in sorted(row.without - _LEFT_OUT):
        if field in asked:
            raise UnsupportedDemand(f"the endpoint of {row.name} has no {field}", field=field)


def check_thinking(row: ProviderModel, effort: Effort | None) -> None:
    """Refuse not to think where nobody can be told; any other effort is a hint.

    Raises:
        Permanent: `unsupported_demand`.
    """
    if effort == "none" and row.thinking == "none":
        detail = f"the endpoint of {row.name} cannot be told not to think"
        raise UnsupportedDemand(detail, field="reasoning_effort")


def unthinking(row: ProviderModel) -> frozenset[Ability]:
    """The ability to answer without thinking, as far as the row tells."""
    return frozenset(() if row.thinking == "none" else ("unthinking",))


def _thinking(row: ProviderModel, effort: Effort | None) -> Json:
    if effort is None or row.thinking == "none":
        return {}
    if row.thinking == "effort":
        return {"reasoning_effort": effort}
    given = row.extra_body.get(TEMPLATE)
    always = given if isinstance(given, Mapping) else {}
    return {TEMPLATE: {**always, "enable_thinking": effort != "none"}}


def _asked(held: Held, sampling: Sampling) -> Iterator[tuple[str, object]]:
    """What the request asks for beyond an answer, under OpenAI's names, which are ours."""
    yield "temperature", sampling.temperature
    neutral: tuple[tuple[str, object], ...] = (
        ("top_p", 1.0),
        ("top_k", 0),
        ("seed", None),
        ("frequency_penalty", 0.0),
        ("presence_penalty", 0.0),
        ("logit_bias", {}),
    )
    for name, nothing in neutral:
        if (value := getattr(sampling, name)) != nothing:
            yield name, value
    if sampling.stop:
        yield "stop", list(sampling.stop)
    if held.demands.logprobs is not None:
        yield "logprobs", True
        if held.demands.logprobs:
            yield "top_logprobs", held.demands.logprobs
    if held.shown:
        yield from _tools(held)
    if held.demands.response_format.type != "text":
        yield "response_format", _format(held)


def _tools(held: Held) -> Iterator[tuple[str, object]]:
    yield "tools", [_tool(spec) for spec in held.shown]
    choice = held.demands.tool_choice
    if choice == "function":
        yield "tool_choice", {"type": "function", "function": {"name": held.demands.function}}
    elif choice == "required":
        yield "tool_choice", choice
    if not held.demands.parallel_tool_calls:
        yield "parallel_tool_calls", False


def _tool(spec: ToolSpec) -> Json:
    function: dict[str, Any] = dict(function_of(spec)["function"])  # type: ignore[call-overload]
    function["parameters"] = {"type": "object", "properties": {}, **spec.parameters}
    if spec.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _format(held: Held) -> Json:
    wanted = held.demands.response_format
    if wanted.type == "json_object" or wanted.schema is None:
        return {"type": "json_object"}
    schema = {"name": wanted.name or "answer", "schema": wanted.schema, "strict": wanted.strict}
    return {"type": "json_schema", "json_schema": schema}


def _message(message: Mapping[str, object]) -> Json:
    """Without what is empty; content must be there, though nothing is said beside a call."""
    shown = {name: value for name, value in message.items() if value is not None}
    if "tool_calls" not in shown:
        shown.setdefault("content", "")
    return shown
