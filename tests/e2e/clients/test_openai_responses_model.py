"""OpenAI's own client and `/v1/responses` before the real model: forms, forced calls, an agent."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import openai
import pytest
from pydantic import BaseModel, Field

from tests.e2e.running import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
DICE = {
    "type": "function",
    "name": "dice",
    "description": "Roll a die.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"sides": {"type": "integer", "minimum": 4, "maximum": 20}},
        "required": ["sides"],
        "additionalProperties": False,
    },
}


class Answer(BaseModel):
    """The form of an answer."""

    sure: bool
    digit: int = Field(ge=1, le=9)


@pytest.fixture
def client(system: System) -> Iterator[openai.OpenAI]:
    with (
        httpx.Client(trust_env=False, timeout=120) as http,
        openai.OpenAI(
            base_url=f"{system.http_url}/v1", api_key="unused", max_retries=0, http_client=http
        ) as client,
    ):
        yield client


def test_an_answer_of_a_given_form(client: openai.OpenAI) -> None:
    parsed = client.responses.parse(model="default", input="Hello", text_format=Answer)
    assert parsed.output_parsed is not None
    assert 1 <= parsed.output_parsed.digit <= 9
    assert parsed.text.format.type == "json_schema"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "dice"}])
def test_a_call_that_is_demanded_is_demanded_once(client: openai.OpenAI, choice: object) -> None:
    ask = {"model": "default", "tools": [DICE]}
    first = client.responses.create(input="Hello", tool_choice=choice, **ask)
    (call,) = (item for item in first.output if item.type == "function_call")
    assert 4 <= json.loads(call.arguments)["sides"] <= 20
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "4"}
    # What the small model says to a result it never asked for is endless nonsense.
    second = client.responses.create(
        input=[result], previous_response_id=first.id, max_output_tokens=32, **ask
    )
    assert second.status in ("completed", "incomplete")
    assert second.previous_response_id == first.id


def test_an_agent_with_its_own_tools_and_the_clients(client: openai.OpenAI) -> None:
    with client.responses.stream(
        model="agent:assistant", input="What is 17 * 23?", tools=[DICE]
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert "391" in final.output_text
    assert {"response.mcp_call.completed", "response.output_text.delta"} <= kinds
    calls = [item for item in final.output if item.type == "mcp_call"]
    assert [(call.name, call.server_label) for call in calls] == [("calculator", "millrace")]
    deeper = client.responses.create(
        model="agent:assistant", input="What is 6 * 7?", previous_response_id=final.id
    )
    assert "42" in deeper.output_text


def test_an_answer_that_is_cut_short_is_incomplete(client: openai.OpenAI) -> None:
    cut = client.responses.create(model="default", input="Hello", max_output_tokens=1)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert cut.max_output_tokens == 1
