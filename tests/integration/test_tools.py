"""The tools service as a process on a real broker: work in, facts out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from shared.bus.kv import KeyValue
from shared.client import Millrace
from shared.contracts.agents import ToolSpec
from shared.contracts.base import SessionRef, decode, encode
from shared.contracts.facts import ToolDone, ToolFailed
from shared.contracts.retrieval import Passage, SearchReply, SearchRequest
from shared.contracts.work import RunTool
from shared.subjects import SEARCH, TOOL_SPECS, tool_subject
from tests.integration.edge_system import edge_system
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
REF = SessionRef("default", "s1")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Millrace]:
    async with (
        edge_system(tmp_path) as system,
        system.service("tools"),
        system.client() as client,
    ):
        yield client


async def run(
    client: Millrace, step: int, name: str, arguments: str, message: str = "", attempt: int = 0
) -> None:
    """`attempt` above 0: not the last one."""
    work = RunTool(
        ref=REF,
        task="t1",
        step=step,
        call=f"c{step}",
        name=name,
        arguments=arguments,
        attempt=max(1, attempt),
        final=not attempt,
    )
    headers = {"Nats-Msg-Id": message or f"t1.{step}"}
    await client.bus.publish(tool_subject(name), encode(work), headers)


async def results(client: Millrace, count: int) -> dict[int, ToolDone | ToolFailed]:
    """The facts of the steps, once there are `count`."""
    async with asyncio.timeout(30):
        while True:
            stored = [fact.fact for fact in await client.log.read(REF)]
            found = {f.step: f for f in stored if isinstance(f, ToolDone | ToolFailed)}
            if len(found) >= count:
                assert len(stored) == len(found), "one result per step"
                return found
            await asyncio.sleep(0.05)


async def test_calls_become_facts(client: Millrace) -> None:
    await run(client, 1, "calculator", '{"expression": "17 * 23"}')
    await run(client, 2, "calculator", '{"expression": "1 / 0"}')
    await run(client, 3, "fly", "{}")
    await run(client, 4, "remember", '{"key": "my badge number", "value": "42"}')
    await results(client, 4)
    await run(client, 5, "recall", '{"key": "Badge number"}')
    await run(client, 1, "calculator", '{"expression": "17 * 23"}', message="again")
    found = await results(client, 5)
    texts = {step: f.result for step, f in found.items() if isinstance(f, ToolDone)}
    assert texts == {1: "391", 4: "saved", 5: "42"}
    failed = {step: f.error for step, f in found.items() if isinstance(f, ToolFailed)}
    assert {step: error.code for step, error in failed.items()} == {
        2: "division_by_zero",
        3: "unknown_tool",
    }
    assert failed[2].detail == "division by zero"


async def test_a_search_without_retrieval_is_a_failure_for_the_moment(client: Millrace) -> None:
    await run(client, 2, "search_knowledge", '{"query": "hotel"}', attempt=1)
    failed = (await results(client, 1))[2]
    assert isinstance(failed, ToolFailed)
    assert (failed.error.family, failed.retry, failed.attempt) == ("transient", True, 1)
    asked: list[SearchRequest] = []

    async def answer(message: Msg) -> None:
        asked.append(decode(message.data, SearchRequest))
        text = "## Hotels\nOne night costs 140 euros."
        found = Passage(document="travel.md", text=text, score=0.7, start=0, end=36, sequence=1)
        await message.respond(encode(SearchReply(results=(found,))))

    await client.bus.nc.subscribe(SEARCH, cb=answer)
    await run(client, 2, "search_knowledge", '{"query": "hotel"}', message="again", attempt=2)
    await until(lambda: has_two(client))
    fact = (await client.log.read(REF))[1].fact
    assert isinstance(fact, ToolDone)
    assert fact.result == "[1] travel.md: Hotels: One night costs 140 euros."
    assert fact.attempt == 2
    assert [(one.tenant, one.collection, one.query) for one in asked] == [
        ("default", "default", "hotel")
    ]


async def has_two(client: Millrace) -> bool:
    return len(await client.log.read(REF)) > 1


async def test_the_tools_are_announced(client: Millrace) -> None:
    await run(client, 1, "calculator", '{"expression": "1"}')
    await results(client, 1)  # work is taken only after the tools are announced
    entries = await KeyValue(client.bus, TOOL_SPECS).entries()
    specs = {entry.key: decode(entry.value, ToolSpec) for entry in entries}
    assert specs["calculator"].parameters["required"] == ["expression"]
    assert len(specs) == 5
