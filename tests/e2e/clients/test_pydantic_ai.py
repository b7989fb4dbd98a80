"""Pydantic AI's agents over the chat API, unmodified."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

import httpx
import pytest
from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.e2e.running import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


class Weather(BaseModel):
    """The weather."""

    sky: Literal["clear", "grey"]
    celsius: int = Field(ge=-40, le=50)


@pytest.fixture
async def model(system: System) -> AsyncIterator[OpenAIChatModel]:
    async with httpx.AsyncClient(trust_env=False) as http:
        provider = OpenAIProvider(
            base_url=f"{system.http_url}/v1", api_key="unused", http_client=http
        )
        yield OpenAIChatModel("nano", provider=provider, settings={"temperature": 0})


async def test_an_agent_with_a_tool_of_its_own(model):
    agent = Agent(model)
    asked = []

    @agent.tool_plain
    def calculator(expression: str) -> str:
        """Exact arithmetic."""
        asked.append(expression)
        left, right = expression.split(" * ")
        return str(int(left) * int(right))

    result = await agent.run("What is 17 * 23?")
    assert asked == ["17 * 23"]
    assert "391" in result.output


@pytest.mark.parametrize("wanted", [Weather, NativeOutput(Weather)], ids=["tool", "native"])
async def test_an_agent_with_structured_output(model, wanted):
    result = await Agent(model, output_type=wanted).run("Hello")
    assert isinstance(result.output, Weather)


async def test_an_agent_streams(model):
    async with Agent(model).run_stream("Hello") as run:
        pieces = [piece async for piece in run.stream_text(delta=True)]
        assert "".join(pieces) == await run.get_output() != ""
