"""The chat model behind an endpoint, on real servers: llama.cpp's and our own, in both dialects.

What every model has to do is asked in `tests/contract/engines`; here is what is an endpoint's own.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.inference.ports import (
    ContextTooLong,
    EndpointRefused,
    EngineUnavailable,
    InvalidRequest,
    UnsupportedDemand,
)
from shared.contracts.demands import Demands, ResponseFormat
from shared.errors import Permanent
from tests.e2e.clients.fronts import Fronts
from tests.integration.provider.endpoints import CALCULATOR, KEY, Place, asking, llama, started
from tests.integration.waiting import until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="package"),
    pytest.mark.timeout(60),
]


async def test_text_comes_in_pieces_with_what_it_cost(place: Place) -> None:
    async with started(place.row()) as chat:
        said = await asking(chat, place.hello).said()
        assert said.text == said.result.content == place.answer
        assert [piece[0] for piece in said.pieces if isinstance(piece, tuple)] == list(
            range(len(said.pieces))
        )
        usage, times = said.answer.usage, said.answer.timings()
        assert min(usage.prompt, usage.completion) > 0
        assert usage.cached <= usage.prompt
        assert said.result.finish_reason == "stop"
        assert 0 < times.first_token_ms <= times.total_ms
        stats = chat.stats()
        assert (stats.running, stats.waiting, stats.capacity) == (0, 0, 8)
        assert stats.tokens_generated == usage.completion


@pytest.mark.parametrize("choice", ["auto", "required", "function"])
async def test_a_tool_is_called_and_its_result_understood(place: Place, choice) -> None:
    demands = Demands(tool_choice=choice, function="calculator" if choice == "function" else "")
    async with started(place.row()) as chat:
        if choice != "auto" and not place.enforces:
            # the scripted engine enforces nothing: the endpoint refuses, by the field's name
            with pytest.raises(UnsupportedDemand) as refused:
                await asking(chat, place.sum, tools=[CALCULATOR], demands=demands).said()
            assert refused.value.field == "tool_choice"
            return
        first = asking(chat, place.sum, tools=[CALCULATOR], demands=demands)
        said = await first.said()
        assert said.result.finish_reason == "tool_calls"
        assert said.pieces == [*said.pieces[:-1], said.result.tool_calls[0]]
        [call] = said.result.tool_calls
        assert (call.index, call.name) == (0, "calculator")
        assert first.question.held.unmet(said.result) is None
        made = {
            "id": "call_t_1_0", "type": "function",
            "function": {"name": call.name, "arguments": call.raw_arguments},
        }  # fmt: skip
        told = await asking(
            chat,
            place.sum,
            {"role": "assistant", "content": None, "tool_calls": [made]},
            {"role": "tool", "tool_call_id": "call_t_1_0", "content": "391"},
            tools=[CALCULATOR],
        ).said()
        assert place.total in told.text


async def test_a_model_that_may_call_nothing_calls_nothing(place: Place) -> None:
    async with started(place.row()) as chat:
        demands = Demands(tool_choice="none")
        said = await asking(chat, place.hello, tools=[CALCULATOR], demands=demands).said()
        assert said.result.tool_calls == ()
        assert said.text == place.answer


async def test_an_answer_has_no_more_tokens_than_it_may(place: Place) -> None:
    async with started(place.row()) as chat:
        said = await asking(chat, place.hello, max_tokens=3).said()
        assert (said.result.finish_reason, said.answer.usage.completion) == ("length", 3)
        assert place.answer.startswith(said.text)


async def test_a_stop_string_ends_it_and_is_not_shown(place: Place) -> None:
    stop = place.answer[4:6]
    async with started(place.row()) as chat:
        said = await asking(chat, place.hello, stop=(stop,)).said()
        assert said.text == place.answer[:4]
        assert said.result.finish_reason == "stop"
        if place.api == "anthropic":  # the other one does not tell
            assert said.result.stop_string == stop


async def test_a_prompt_that_is_too_long_is_refused_as_such(place: Place) -> None:
    async with started(place.row()) as chat:
        with pytest.raises(ContextTooLong) as refused:
            await asking(chat, place.hello + " very much" * 4000).said()
        assert refused.value.field == "messages"
        assert (await asking(chat, place.hello).said()).text == place.answer


async def test_tokens_are_counted_where_the_dialect_has_a_way(place: Place) -> None:
    async with started(place.row()) as chat:
        question = asking(chat, place.hello, tools=[CALCULATOR])
        if place.api == "openai":
            with pytest.raises(UnsupportedDemand):
                await chat.count(question.question)
        else:
            said = await question.said()
            assert await chat.count(question.question) == said.answer.usage.prompt


async def test_log_probabilities_stand_beside_the_text(llama_url: str) -> None:
    place = llama(llama_url, "openai")
    async with started(place.row()) as chat:
        said = await asking(chat, place.hello, demands=Demands(logprobs=2)).said()
        scores = said.answer.scores
        assert scores is not None
        taken = scores.take(said.text)
        assert b"".join(bytes(one.bytes or ()) for one in taken).decode() == said.text
        assert all(one.logprob <= 0 and len(one.top) == 2 for one in taken)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"sky": {"enum": ["clear", "grey"]}}, "required": ["sky"],
         "additionalProperties": False},
        {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
         "required": ["n"], "additionalProperties": False},
        {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2},
    ],
)  # fmt: skip
async def test_a_strict_schema_is_kept(llama_url: str, schema) -> None:
    place = llama(llama_url, "openai")
    shaped = ResponseFormat(type="json_schema", name="weather", schema=schema, strict=True)
    async with started(place.row()) as chat:
        asked = asking(chat, "The sky?", demands=Demands(response_format=shaped))
        said = await asked.said()
        assert asked.question.held.unmet(said.result) is None


async def test_an_abort_ends_the_answer_here_and_there(own: Place, fronts: Fronts) -> None:
    async with started(own.row()) as chat:
        asked = asking(chat, "say " + "long " * 400, max_tokens=4000)
        running = asyncio.create_task(asked.said())
        await until(lambda: len(asked.pieces) > 1)
        await chat.abort("r")
        said = await running
        assert said.result.finish_reason == "aborted"
        assert 0 < len(said.text) < 2000
        assert chat.stats().running == 0
        await until(lambda: fronts.loop.engine().stats().running == 0)
        await chat.abort("r")
        await chat.abort("nobody")


async def test_closing_the_iterator_ends_it_too(own: Place, fronts: Fronts) -> None:
    async with started(own.row(concurrency=1)) as chat:
        for _ in range(2):  # the slot is free again
            asked = asking(chat, "say " + "long " * 400, max_tokens=4000)
            running = asyncio.create_task(asked.said())
            await until(lambda: asked.pieces)  # noqa: B023
            running.cancel()
            await asyncio.wait({running})
        await until(lambda: fronts.loop.engine().stats().running == 0)
        assert chat.stats().running == 0


async def test_who_waits_for_a_slot_can_be_aborted_too(own: Place) -> None:
    async with started(own.row(concurrency=1)) as chat:
        first = asyncio.create_task(
            asking(chat, "say " + "long " * 400, max_tokens=4000, name="a").said()
        )
        await until(lambda: chat.stats().running == 1)
        second = asyncio.create_task(asking(chat, own.hello, name="b").said())
        await until(lambda: chat.stats().waiting == 1)
        await chat.abort("b")
        assert ((await second).text, (await second).result.finish_reason) == ("", "aborted")
        await chat.abort("a")
        assert (await first).result.finish_reason == "aborted"
        assert (await asking(chat, own.hello).said()).text == own.answer


async def test_a_name_is_in_flight_once(own: Place) -> None:
    async with started(own.row()) as chat:
        running = asyncio.create_task(asking(chat, "say " + "long " * 400, max_tokens=4000).said())
        await until(lambda: chat.stats().running == 1)
        with pytest.raises(InvalidRequest):
            await asking(chat, own.hello).said()
        await chat.abort("r")
        assert (await running).result.finish_reason == "aborted"


async def test_an_end_aborts_what_runs_and_refuses_the_rest(own: Place) -> None:
    async with started(own.row()) as chat:
        running = asyncio.create_task(asking(chat, "say " + "long " * 400, max_tokens=4000).said())
        await until(lambda: chat.stats().running == 1)
        await chat.close()
        assert (await running).result.finish_reason == "aborted"
        with pytest.raises(EngineUnavailable):
            await asking(chat, own.hello).said()
        await chat.close()


async def test_a_model_that_is_not_there_takes_the_worker_out(own: Place) -> None:
    async with started(own.row(name="nobody")) as chat:
        with pytest.raises(EndpointRefused) as refused:
            await asking(chat, own.hello).said()
        assert "'nobody'" in refused.value.detail
        assert chat.stats().capacity == 0


async def test_a_wrong_key_keeps_the_worker_out_until_it_is_right(
    other: Place, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text("a-wrong-one")
    async with started(other.row(key=None, key_file=str(file))) as chat:
        assert chat.stats().capacity == 0
        with pytest.raises(EndpointRefused) as refused:
            await asking(chat, other.hello).said()
        assert str(file) in refused.value.detail
        assert "a-wrong-one" not in str(refused.value)
        file.write_text(KEY)
        await until(lambda: chat.stats().capacity == 1)
        assert (await asking(chat, other.hello).said()).text == other.answer
        assert chat.stats().capacity == 8


async def test_what_the_endpoint_does_not_like_is_refused_by_its_name(own: Place) -> None:
    async with started(own.row()) as chat:
        with pytest.raises(Permanent) as refused:  # ours would take it, the endpoint does not
            await asking(chat, own.hello, temperature=9.0).said()
        assert (refused.value.code, refused.value.field) == ("invalid_request", "temperature")
        assert chat.stats().capacity == 8
