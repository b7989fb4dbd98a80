"""Questions for the tests of what is said to an endpoint."""

from __future__ import annotations

from services.inference.core.answering import Json, Owner, Question
from services.inference.core.demands import Held
from shared.contracts.agents import Sampling, ToolSpec
from shared.contracts.demands import Demands
from shared.models import ProviderModel

CALCULATOR = ToolSpec(
    name="calculator",
    description="Sums.",
    parameters={"properties": {"expression": {"type": "string"}}},
)
CALL: Json = {
    "id": "call_1", "type": "function",
    "function": {"name": "calculator", "arguments": '{"expression": "1 + 1"}'},
}  # fmt: skip
TALK: list[Json] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "1 + 1?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL, CALL | {"id": "call.2"}]},
    {"role": "tool", "tool_call_id": "call_1", "content": "2"},
    {"role": "tool", "tool_call_id": "call.2", "content": "2"},
    {"role": "user", "content": "And?"},
]


def question(
    *tools: ToolSpec,
    messages: list[Json] | None = None,
    demands: Demands | None = None,
    **sampling: object,
) -> Question:
    return Question(
        messages=TALK if messages is None else messages,
        held=Held(demands or Demands(), tools),
        sampling=Sampling(**sampling),  # type: ignore[arg-type]
        owner=Owner("r", "t"),
    )


def row(**more: object) -> ProviderModel:
    given = {"name": "gpt", "base_url": "http://there/v1", "context": 1000, **more}
    return ProviderModel(**given)  # type: ignore[arg-type]
