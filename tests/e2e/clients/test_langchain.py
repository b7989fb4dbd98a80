"""LangChain's `ChatOpenAI`, unmodified."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import httpx
import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

from tests.e2e.running import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@tool
def calculator(expression: str) -> str:
    """Exact arithmetic."""
    left, right = expression.split(" * ")
    return str(int(left) * int(right))


class Weather(BaseModel):
    """The weather."""

    sky: Literal["clear", "grey"]
    celsius: int = Field(ge=-40, le=50)


@pytest.fixture(scope="module")
def model(system: System) -> Iterator[ChatOpenAI]:
    with httpx.Client(trust_env=False) as http:
        yield ChatOpenAI(
            model="nano",
            base_url=f"{system.http_url}/v1",
            api_key="unused",
            temperature=0,
            max_tokens=64,
            max_retries=0,
            http_client=http,
            use_responses_api=False,
        )


def test_invoke_and_stream_say_the_same(model):
    whole = model.invoke("Hello")
    streamed = "".join(str(chunk.content) for chunk in model.stream("Hello"))
    assert whole.content == streamed != ""
    assert whole.usage_metadata["output_tokens"] > 0


def test_a_bound_tool_is_called_and_its_result_read(model):
    bound = model.bind_tools([calculator])
    question = HumanMessage("What is 17 * 23?")
    answer = bound.invoke([question])
    (call,) = answer.tool_calls
    result = calculator.invoke(call)
    assert isinstance(result, ToolMessage)
    last = bound.invoke([question, answer, result])
    assert "391" in last.content


def test_a_tool_can_be_forced_and_streamed(model):
    bound = model.bind_tools([calculator], tool_choice="calculator")
    chunks = list(bound.stream("What is 3 * 4?"))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    assert [call["name"] for call in whole.tool_calls] == ["calculator"]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(model, method):
    found = model.with_structured_output(Weather, method=method, strict=True).invoke("Hello")
    assert isinstance(found, Weather)
