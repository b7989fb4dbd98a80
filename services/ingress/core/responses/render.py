"""Responses as OpenAI's objects: the response itself, its output items, its input items.

Items have derived ids (`<kind>_<task>_<step>`), so the same item has the same id wherever it is
shown. Tools on our side are shown as `mcp_call`: a kind that clients do not run themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.ingress.core.responses.fold import ECHO, Json, Response, Turn
from shared.contracts import facts as f
from shared.contracts.agents import Sampling, ToolSpec
from shared.contracts.demands import Demands, ResponseFormat
from shared.contracts.tasks import InputMessage, text_of

SERVER_LABEL = "millrace"
_UNKNOWN: Json = {"code": "server_error", "message": "the task ended without an answer"}


def response_json(response: Response, *, status: str = "") -> Json:
    """The whole object; `status` is another one than its own, at its beginning."""
    begins = bool(status)
    shown = status or response.status
    echo, terms = response.echo, response.terms
    sampling = response.sampling if isinstance(response.sampling, Sampling) else Sampling()
    ended = None if begins else response.ended
    own = {name: value for name, value in response.metadata.items() if name != ECHO}
    return {
        "id": response.place.id,
        "object": "response",
        "created_at": int(response.created),
        "completed_at": int(ended) if ended is not None and shown == "completed" else None,
        "status": shown,
        "background": bool(echo.get("background")),
        "error": error_json(response) if shown == "failed" else None,
        "incomplete_details": {"reason": "max_output_tokens"} if shown == "incomplete" else None,
        "instructions": terms.instructions or None,
        "max_output_tokens": echo.get("max_output_tokens"),
        "max_tool_calls": echo.get("max_tool_calls"),
        "model": echo.get("model") or terms.route or "unknown",
        "output": [] if begins else output_items(response),
        "parallel_tool_calls": terms.demands.parallel_tool_calls,
        "previous_response_id": echo.get("previous_response_id"),
        "conversation": echo.get("conversation"),
        "prompt_cache_key": echo.get("prompt_cache_key"),
        "reasoning": {"effort": terms.demands.effort, "summary": echo.get("summary")},
        "safety_identifier": echo.get("safety_identifier"),
        "service_tier": "flex" if terms.priority == "batch" else "default",
        "store": echo.get("store", True),
        "temperature": sampling.temperature,
        "text": {"format": format_json(terms.demands.response_format)},
        "tool_choice": choice_json(terms.demands),
        "tools": [tool_json(tool) for tool in terms.tools],
        "top_logprobs": 0,
        "top_p": sampling.top_p,
        "truncation": terms.demands.truncation,
        "usage": None if begins or ended is None else usage_json(response.usage),
        "user": echo.get("user"),
        "metadata": own,
    }


def error_json(response: Response) -> Json:
    """OpenAI's error of a response; the code is ours, it says more than theirs."""
    error = response.error
    if error is None:
        return _UNKNOWN
    return {"code": error.code, "message": error.detail or error.code}


def usage_json(usage: f.Usage) -> Json:
    """OpenAI's usage object of a response."""
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }


def format_json(wanted: ResponseFormat) -> Json:
    """`text.format`."""
    if wanted.type != "json_schema":
        return {"type": wanted.type}
    return {
        "type": "json_schema",
        "name": wanted.name,
        "schema": wanted.schema or {},
        "strict": wanted.strict,
        "description": None,
    }


def choice_json(demands: Demands) -> object:
    """`tool_choice`."""
    if demands.tool_choice == "function":
        return {"type": "function", "name": demands.function}
    return demands.tool_choice


def tool_json(tool: ToolSpec) -> Json:
    """A tool of the client."""
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }


# -- output ----------------------------------------------------------------------------------------


def output_items(response: Response) -> list[Json]:
    """What the response has said and done so far, in order."""
    return [item for turn in response.turns for item in turn_items(response, turn)]


def turn_items(response: Response, turn: Turn) -> list[Json]:
    """The items of one answer."""
    said = turn.said
    items = [reasoning_item(said.task, said.step, turn.thought)] if turn.thought else []
    items += [message_item(said.task, said.step, said.content)] if said.content else []
    calls = enumerate(said.tool_calls)
    return items + [call_item(response, turn, place, call) for place, call in calls]


def reasoning_id(task: str, step: int) -> str:
    """The id of what the model thought in a step."""
    return f"rs_{task}_{step}"


def thought_part(text: str) -> Json:
    """A part of what the model thought."""
    return {"type": "reasoning_text", "text": text}


def reasoning_item(task: str, step: int, text: str | None) -> Json:
    """What the model thought; without a text it only begins to. Nobody sums it up."""
    return {
        "id": reasoning_id(task, step),
        "type": "reasoning",
        "status": "in_progress" if text is None else "completed",
        "summary": [],
        "content": [] if text is None else [thought_part(text)],
    }


def message_id(task: str, step: int) -> str:
    """The id of what the model said in a step."""
    return f"msg_{task}_{step}"


def text_part(text: str) -> Json:
    """A part of a message that the model said."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message_item(task: str, step: int, text: str | None) -> Json:
    """What the model said; without a text it only begins to speak."""
    return {
        "id": message_id(task, step),
        "type": "message",
        "role": "assistant",
        "status": "in_progress" if text is None else "completed",
        "content": [] if text is None else [text_part(text)],
    }


def call_item(response: Response, turn: Turn, place: int, call: f.ToolCall) -> Json:
    """A call: the client's to answer, or ours with its result once there is one."""
    where = f"{turn.said.task}_{turn.said.step}_{place}"
    if call.name in response.clients:
        return {
            "id": f"fc_{where}",
            "type": "function_call",
            "status": "completed",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }
    found = turn.results.get(call.id)
    result = None if found is None or found.late else found
    status = "in_progress" if response.open else "incomplete"
    if result is not None:
        status = "failed" if result.failed else "completed"
    return {
        "id": f"mcp_{where}",
        "type": "mcp_call",
        "status": status,
        "server_label": SERVER_LABEL,
        "name": call.name,
        "arguments": call.arguments,
        "output": result.text if result is not None and not result.failed else None,
        "error": result.text if result is not None and result.failed else None,
        "approval_request_id": None,
    }


# -- input -----------------------------------------------------------------------------------------


def input_items(response: Response) -> list[Json]:
    """What the response was asked, in order."""
    return message_items(response.place.id.removeprefix("resp_"), response.input)


def message_items(stem: str, messages: Sequence[InputMessage], first: int = 0) -> list[Json]:
    """Messages that somebody gave us, as items; `first` is the place of the first one."""
    items: list[Json] = []
    for number, message in enumerate(messages, first):
        items += _given_items(f"{stem}_in{number}", message)
    return items


def _given_items(name: str, message: InputMessage) -> list[Json]:
    text = text_of(message.content)
    if message.tool_call_id:
        return [
            {
                "id": f"fco_{name}",
                "type": "function_call_output",
                "status": "completed",
                "call_id": message.tool_call_id,
                "output": text,
            }
        ]
    part = text_part(text) if message.role == "assistant" else {"type": "input_text", "text": text}
    said: Json = {
        "id": f"msg_{name}",
        "type": "message",
        "role": message.role,
        "status": "completed",
        "content": [part],
    }
    calls: list[Json] = [
        {
            "id": f"fc_{name}_{place}",
            "type": "function_call",
            "status": "completed",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }
        for place, call in enumerate(message.tool_calls)
    ]
    return ([said] if text or not calls else []) + calls
