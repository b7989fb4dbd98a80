"""What servers that cannot be had here send, byte by byte over a socket: how they are understood.

The streams follow the public descriptions of the servers that they are named after.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest
import pytest_asyncio

from services.inference.core.generation import TokenUsage
from services.inference.core.toolcalls import ReasoningDelta, ToolCall
from services.inference.ports import EngineFailed
from shared.contracts.demands import Demands
from shared.errors import MillraceError
from shared.models import Api
from tests.integration.provider.endpoints import CALCULATOR, Place, Said, asking, started
from tests.integration.provider.proxy import Fault, Proxy, proxy, reply

pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="package"),
    pytest.mark.timeout(60),
]


@pytest_asyncio.fixture(loop_scope="package")
async def server() -> AsyncIterator[Proxy]:
    """Answers as it is told to; there is nothing behind it."""
    async with proxy(1) as found:
        found.look = reply("404 Not Found", b"{}")
        yield found


def chunk(finish: str | None = None, **delta: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def stream(*events: dict[str, object], done: bool = True) -> Fault:
    """Server-sent events in either dialect; Anthropic's have names."""
    lines = []
    for event in events:
        name = b"event: %s\n" % str(event["type"]).encode() if "type" in event else b""
        lines.append(name + b"data: " + orjson.dumps(event) + b"\n\n")
    body = b"".join(lines) + (b"data: [DONE]\n\n" if done else b"")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    return Fault("raw", raw=head + body)


async def said(server: Proxy, api: Api, fault: Fault, **more: object) -> Said:
    server.fault = fault
    place = Place(api, server.url, "m", "Hi", "", "", "", enforces=True)
    async with started(place.row(key=None)) as chat:
        return await asking(chat, "Hi", tools=[CALCULATOR], **more).said()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_reasoning_of_deepseek_and_vllm_stands_beside_the_answer(server, name) -> None:
    usage = {
        "prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }  # fmt: skip
    one = await said(
        server,
        "openai",
        stream(
            chunk(role="assistant", content=""),
            chunk(**{name: "Let me "}),
            chunk(**{name: "think."}),
            chunk(content="42"),
            chunk("stop"),
            {"choices": [], "usage": usage},
        ),
    )
    thought = "".join(piece.text for piece in one.pieces if isinstance(piece, ReasoningDelta))
    assert (thought, one.result.reasoning, one.text) == ("Let me think.", "Let me think.", "42")
    assert one.answer.usage == TokenUsage(9, 5, 4, 3)


async def test_the_stop_string_of_vllm_is_told(server: Proxy) -> None:
    last = chunk("stop")
    last["choices"][0]["stop_reason"] = "\n"  # type: ignore[index]
    one = await said(server, "openai", stream(chunk(content="a"), last), stop=("\n",))
    assert (one.result.finish_reason, one.result.stop_string) == ("stop", "\n")


async def test_calls_that_come_whole_and_at_one_place_are_two(server: Proxy) -> None:
    calls = [
        {"index": 0, "id": f"c{n}", "type": "function",
         "function": {"name": "calculator", "arguments": f'{{"expression": "{n}"}}'}}
        for n in (1, 2)
    ]  # fmt: skip
    one = await said(
        server, "openai", stream(*(chunk(tool_calls=[c]) for c in calls), chunk("stop"))
    )
    assert [(c.index, c.arguments["expression"]) for c in one.result.tool_calls] == [
        (0, "1"),
        (1, "2"),
    ]
    assert one.result.finish_reason == "tool_calls"


async def test_no_more_calls_are_taken_than_were_asked_for(server: Proxy) -> None:
    calls = [
        {"index": n, "id": f"c{n}", "function": {"name": "calculator", "arguments": "{}"}}
        for n in range(2)
    ]
    fault = stream(chunk(tool_calls=calls), chunk("tool_calls"))
    one = await said(server, "openai", fault, demands=Demands(parallel_tool_calls=False))
    assert len(one.result.tool_calls) == 1


async def test_who_tells_no_usage_is_counted_with_nothing(server: Proxy) -> None:
    one = await said(server, "openai", stream(chunk(content="a"), chunk("stop")))
    assert one.answer.usage == TokenUsage(0, 0, 0)


async def test_a_refusal_in_words_is_the_answer(server: Proxy) -> None:
    one = await said(server, "openai", stream(chunk(refusal="I will not."), chunk("stop")))
    assert one.text == "I will not."


@pytest.mark.parametrize(
    ("api", "fault"),
    [
        ("openai", stream(chunk(content="a"), chunk("content_filter"))),
        (
            "anthropic",
            stream({"type": "message_delta", "delta": {"stop_reason": "refusal"}, "usage": {}}),
        ),
    ],
)
async def test_an_answer_that_is_withheld_is_none(server, api, fault) -> None:
    with pytest.raises(MillraceError) as withheld:
        await said(server, api, fault)
    assert (withheld.value.code, withheld.value.family) == ("content_filtered", "permanent")


@pytest.mark.parametrize("finish", ["error", "abort", None])
async def test_an_end_that_is_none_is_a_failure(server: Proxy, finish) -> None:
    with pytest.raises(EngineFailed):
        await said(server, "openai", stream(chunk(content="a"), chunk(finish)))


async def test_thinking_a_call_and_the_cache_of_anthropic(server: Proxy) -> None:
    began = {"input_tokens": 3, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 2,
             "output_tokens": 1}  # fmt: skip
    ended = {"output_tokens": 20, "output_tokens_details": {"thinking_tokens": 7}}

    def block(index: int, begin: dict[str, object], *deltas: dict[str, object]):
        yield {"type": "content_block_start", "index": index, "content_block": begin}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}

    use = {"type": "tool_use", "id": "toolu_1", "name": "calculator", "input": {}}
    one = await said(
        server,
        "anthropic",
        stream(
            {"type": "message_start", "message": {"usage": began, "content": []}},
            {"type": "ping"},
            *block(
                0,
                {"type": "thinking", "thinking": ""},
                {"type": "thinking_delta", "thinking": "A sum."},
                {"type": "signature_delta", "signature": "EqQB"},
            ),
            *block(1, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Well."}),
            *block(
                2,
                use,
                {"type": "input_json_delta", "partial_json": ""},
                {"type": "input_json_delta", "partial_json": '{"expression": '},
                {"type": "input_json_delta", "partial_json": '"1 + 1"}'},
            ),
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": ended},
            {"type": "message_stop"},
            done=False,
        ),
    )
    call = ToolCall(0, "calculator", {"expression": "1 + 1"}, '{"expression": "1 + 1"}')
    assert one.pieces == [ReasoningDelta("A sum."), (0, "Well."), call]
    assert (one.result.finish_reason, one.result.reasoning) == ("tool_calls", "A sum.")
    assert one.answer.usage == TokenUsage(15, 20, 10, 7)


@pytest.mark.parametrize("reason", ["max_tokens", "model_context_window_exceeded"])
async def test_an_answer_of_anthropic_that_is_cut_says_so(server: Proxy, reason) -> None:
    end = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 1}}
    one = await said(server, "anthropic", stream(end))
    assert one.result.finish_reason == "length"
