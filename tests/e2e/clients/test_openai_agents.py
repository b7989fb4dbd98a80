"""OpenAI's agents framework: its tools run here, our loop waits for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from agents import (
    Agent,
    Model,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    function_tool,
    handoff,
)
from openai import AsyncOpenAI

from tests.e2e.clients.agents_pair import NEEDED
from tests.e2e.clients.fronts import Fronts

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="package"),
]
QUIET = RunConfig(tracing_disabled=True)
CALLS: list[int] = []
Build = Callable[[str], Model]


@function_tool(strict_mode=False)  # the scripted engine holds no model to a schema
def mine(n: int) -> str:
    """A tool of the client."""
    CALLS.append(n)
    return f"mine{n}"


@pytest_asyncio.fixture(loop_scope="package")
async def client(fronts: Fronts) -> AsyncIterator[AsyncOpenAI]:
    CALLS.clear()
    async with fronts.client() as client:
        yield client


@pytest.fixture(params=[OpenAIResponsesModel, OpenAIChatCompletionsModel])
def build(request: pytest.FixtureRequest, client: AsyncOpenAI) -> Build:
    """A model over Responses, and over chat completions."""
    return lambda name: request.param(model=name, openai_client=client)


@pytest.mark.parametrize("name", ["default", "agent:helper"])
async def test_a_tool_of_the_client(build: Build, name: str) -> None:
    agent = Agent(name="a", instructions="Be short.", model=build(name), tools=[mine])
    result = await Runner.run(agent, "call mine", run_config=QUIET)
    assert result.final_output == "got mine0"
    assert CALLS == [0]
    more = [*result.to_input_list(), {"role": "user", "content": "say bye"}]
    again = await Runner.run(agent, more, run_config=QUIET)
    assert again.final_output == "bye"


@pytest.mark.parametrize("name", ["default", "agent:helper"])
async def test_streamed(build: Build, name: str) -> None:
    agent = Agent(name="a", model=build(name), tools=[mine])
    result = Runner.run_streamed(agent, "call mine", run_config=QUIET)
    kinds = [event.name async for event in result.stream_events() if hasattr(event, "name")]
    assert [kind for kind in kinds if kind.startswith("tool")] == ["tool_called", "tool_output"]
    assert kinds[-1] == "message_output_created"
    assert result.final_output == "got mine0"


async def test_tools_of_both_sides(client: AsyncOpenAI) -> None:
    """Ours are shown, and not run a second time by the framework."""
    model = OpenAIResponsesModel(model="agent:helper", openai_client=client)
    agent = Agent(name="a", model=model, tools=[mine])
    result = await Runner.run(agent, "tools 2", run_config=QUIET)
    assert sorted(result.final_output.split()) == ["got", "shout0", "shout1"]
    assert not CALLS


async def test_the_server_keeps_the_history(client: AsyncOpenAI) -> None:
    model = OpenAIResponsesModel(model="default", openai_client=client)
    agent = Agent(name="a", model=model, tools=[mine])
    first = await Runner.run(agent, "call mine", run_config=QUIET, auto_previous_response_id=True)
    second = await Runner.run(
        agent, "say bye", run_config=QUIET, previous_response_id=first.last_response_id
    )
    assert (first.final_output, second.final_output) == ("got mine0", "bye")
    talk = await client.conversations.create()
    third = await Runner.run(agent, "call mine", run_config=QUIET, conversation_id=talk.id)
    assert third.final_output == "got mine0"


async def test_a_handoff(build: Build) -> None:
    """Another agent goes on: other words and other tools in the middle of a task."""
    model = build("default")
    second = Agent(name="second", instructions="You are the second.", model=model)
    over = handoff(second)
    over.strict_json_schema = False
    first = Agent(name="first", instructions="Hand over.", model=model, handoffs=[over])
    result = await Runner.run(first, "call transfer_to_second", run_config=QUIET)
    assert result.last_agent.name == "second"
    assert result.final_output.startswith("got")


async def test_the_pair_still_needs_this() -> None:
    assert NEEDED, "agents_pair.py can go"
