"""LangChain and Pydantic AI over `/v1/responses`, with tools of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI
from pydantic import SecretStr
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.e2e.clients.fronts import Fronts

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="package"),
]


@pytest_asyncio.fixture(loop_scope="package")
async def client(fronts: Fronts) -> AsyncIterator[AsyncOpenAI]:
    async with fronts.client() as client:
        yield client


@tool
def mine(n: int) -> str:
    """A tool of the client."""
    return f"mine{n}"


@pytest.mark.parametrize("name", ["default", "agent:helper"])
async def test_langchain(fronts: Fronts, client: AsyncOpenAI, name: str) -> None:
    model = ChatOpenAI(
        model=name,
        base_url=f"{fronts.urls[0]}/v1",
        api_key=SecretStr("unused"),
        use_responses_api=True,
        async_client=client.chat.completions,
        root_async_client=client,
    ).bind_tools([mine])
    asked = HumanMessage("call mine")
    first = await model.ainvoke([asked])
    (call,) = first.tool_calls
    assert (call["name"], call["args"]) == ("mine", {"n": 0})
    result = ToolMessage(mine.invoke(call["args"]), tool_call_id=call["id"])
    last = await model.ainvoke([asked, first, result])
    assert last.text == "got mine0"
    pieces = [piece async for piece in model.astream([asked, first, result])]
    assert "".join(piece.text for piece in pieces) == "got mine0"


@pytest.mark.parametrize("name", ["default", "agent:helper"])
async def test_pydantic_ai(client: AsyncOpenAI, name: str) -> None:
    model = OpenAIResponsesModel(name, provider=OpenAIProvider(openai_client=client))
    agent = Agent(model, instructions="Be short.")
    agent.tool_plain(strict=False, name="mine")(lambda n=0: f"mine{n}")
    first = await agent.run("call mine")
    assert first.output == "got mine0"
    second = await agent.run("say bye", message_history=first.all_messages())
    assert second.output == "bye"
    async with agent.run_stream("say streamed") as stream:
        assert await stream.get_output() == "streamed"
