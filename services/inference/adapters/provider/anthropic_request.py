"""Owns a question in Anthropic's words. Pure.

Instructions stand beside the messages there, results of calls are what the user says, and an
answer may not be empty. What was said to the model in between is said by the user.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import orjson

from services.inference.adapters.provider.openai_request import (
    answer_limit,
    check_lacks,
    check_meaning,
    check_thinking,
)
from services.inference.core.answering import Json, Question
from services.inference.core.demands import Held
from services.inference.ports import InvalidRequest, UnsupportedDemand
from shared.contracts.agents import Effort, Sampling, ToolSpec
from shared.models import Lack, ProviderModel

ABSENT = ("seed", "frequency_penalty", "presence_penalty", "logit_bias")
"""What this API has no word for; log-probabilities neither."""
_BUDGETS: dict[Effort, int] = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16_384,
    "xhigh": 32_768,
    "max": 65_536,
}
"""Tokens to think with; fewer than the first may not be asked for."""
_NOT_THINKING: frozenset[Lack] = frozenset(("temperature", "top_p", "top_k"))
"""What a model that thinks does not take."""
_SYSTEM = frozenset(("system", "developer"))
_ID = re.compile(r"[^A-Za-z0-9_-]")


def messages_request(row: ProviderModel, question: Question) -> Json:
    """The body of `POST /v1/messages`.

    Raises:
        Permanent: `unsupported_demand`, `invalid_request`.
    """
    held, sampling = question.held, question.sampling
    check_meaning(question)
    held.constraint()  # a call that is demanded of a tool that is not there
    _check(held, sampling)
    asked = dict(_asked(held, sampling))
    check_lacks(row, {**asked, "stop": asked["stop_sequences"]} if sampling.stop else asked)
    check_thinking(row, held.demands.effort)
    limit = answer_limit(row, sampling)
    thought = _thinking(row, question, limit)
    left_out = row.without | (_NOT_THINKING if "budget_tokens" in thought else frozenset())
    return {
        "model": row.name,
        "max_tokens": limit,
        "stream": True,
        **prompt(question),
        **{name: value for name, value in asked.items() if name not in left_out},
        **({"thinking": thought} if thought else {}),
        **row.extra_body,
    }


def _thinking(row: ProviderModel, question: Question, limit: int) -> Json:
    """`thinking`; nothing where the rules of this API do not let the model think.

    It must be free to call, and a turn that goes on with results has to begin with the thought
    that led to the calls, signed: nobody keeps that.
    """
    effort = question.held.demands.effort
    if effort is None or row.thinking == "none":
        return {}
    if effort == "none":
        return {"type": "disabled"}
    budget = min(_BUDGETS[effort], limit - 1)
    forced = question.held.demands.tool_choice in ("required", "function")
    going_on = question.messages[-1].get("role") == "tool"
    if forced or going_on or budget < _BUDGETS["minimal"]:
        return {}
    return {"type": "enabled", "budget_tokens": budget}


def prompt(question: Question) -> Json:
    """What is shown to the model: instructions, messages and tools."""
    instructions, rest = _split(question.messages)
    turns = _merged(_turn(message) for message in rest)
    found: Json = {"messages": [turn for turn in turns if turn["content"]]}
    if instructions:
        found["system"] = instructions
    tools = [_tool(spec) for spec in question.held.tools] or _remembered(rest)
    if tools:
        found["tools"] = tools
        found["tool_choice"] = _choice(question.held)
    return found


def _check(held: Held, sampling: Sampling) -> None:
    for name in ABSENT:
        if getattr(sampling, name):
            raise UnsupportedDemand(f"Anthropic's API has no {name}", field=name)
    if sampling.seed is not None:
        raise UnsupportedDemand("Anthropic's API has no seed", field="seed")
    if held.demands.response_format.type == "json_object":
        detail = "Anthropic's API takes a schema, no json_object"
        raise UnsupportedDemand(detail, field="response_format")
    if held.demands.logprobs is not None:
        raise UnsupportedDemand("Anthropic's API has no log-probabilities", field="logprobs")


def _asked(held: Held, sampling: Sampling) -> Iterator[tuple[str, object]]:
    yield "temperature", sampling.temperature
    if sampling.top_p < 1:
        yield "top_p", sampling.top_p
    if sampling.top_k:
        yield "top_k", sampling.top_k
    if sampling.stop:
        yield "stop_sequences", list(sampling.stop)
    wanted = held.demands.response_format
    if wanted.type == "json_schema":
        yield "output_config", {"format": {"type": "json_schema", "schema": wanted.schema or {}}}


def _choice(held: Held) -> Json:
    choice = held.demands.tool_choice
    if choice == "none" or not held.tools:
        return {"type": "none"}
    kind = {"auto": "auto", "required": "any", "function": "tool"}[choice]
    found: Json = {"type": kind}
    if choice == "function":
        found["name"] = held.demands.function
    if not held.demands.parallel_tool_calls:
        found["disable_parallel_tool_use"] = True
    return found


def _tool(spec: ToolSpec) -> Json:
    schema = {"type": "object", "properties": {}, **spec.parameters}
    found: Json = {"name": spec.name, "description": spec.description, "input_schema": schema}
    if spec.strict:
        found["strict"] = True
    return {name: value for name, value in found.items() if value != ""}


def _remembered(messages: Sequence[Mapping[str, object]]) -> list[Json]:
    """Calls in a conversation want their tools to be there, though none may be called any more."""
    names = {_function(call)["name"]: None for one in messages for call in _calls(one)}
    return [{"name": name, "input_schema": {"type": "object"}} for name in names]


def _split(messages: Sequence[Json]) -> tuple[str, Sequence[Json]]:
    """The instructions at the beginning, and the rest."""
    count = 0
    while count < len(messages) and messages[count].get("role") in _SYSTEM:
        count += 1
    texts = [_text(message.get("content")) for message in messages[:count]]
    return "\n\n".join(filter(None, texts)), messages[count:]


def _turn(message: Json) -> tuple[str, list[Json]]:
    role, content = message.get("role"), message.get("content")
    if role == "tool":
        result: Json = {
            "type": "tool_result",
            "tool_use_id": _id(message.get("tool_call_id")),
            "content": _text(content),
        }
        return "user", [result]
    said = _text(content)
    blocks: list[Json] = [{"type": "text", "text": said}] if said.strip() else []
    if role != "assistant":
        return "user", blocks
    return "assistant", [*blocks, *map(_use, _calls(message))]


def _merged(turns: Iterator[tuple[str, list[Json]]]) -> list[Json]:
    """Neighbours of one role are one turn: all results of an answer's calls stand together."""
    found: list[Json] = []
    for role, blocks in turns:
        if found and found[-1]["role"] == role:
            cast("list[Json]", found[-1]["content"]).extend(blocks)
        else:
            found.append({"role": role, "content": list(blocks)})
    return found


def _use(call: Mapping[str, object]) -> Json:
    function = _function(call)
    arguments = function.get("arguments", "{}")
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments or "{}")
        except orjson.JSONDecodeError:
            arguments = {"arguments": arguments}
    if not isinstance(arguments, dict):
        arguments = {"arguments": arguments}
    return {
        "type": "tool_use", "id": _id(call.get("id")), "name": function["name"], "input": arguments
    }  # fmt: skip


def _calls(message: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    return cast("Sequence[Mapping[str, object]]", message.get("tool_calls") or ())


def _function(call: Mapping[str, object]) -> Mapping[str, object]:
    found = call.get("function")
    if not isinstance(found, Mapping) or not isinstance(found.get("name"), str):
        raise InvalidRequest("a call of a tool names its function", field="messages")
    return found


def _id(found: object) -> str:
    """An id as they take it: ours fit, a client's may not."""
    return _ID.sub("_", found)[:128] if isinstance(found, str) and found else "call"


def _text(content: object) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, Sequence) else ()
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise InvalidRequest("a content part is not text", field="messages")
    return "".join(map(str, texts))
