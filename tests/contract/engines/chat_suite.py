"""The behaviour every model must show that is asked in messages, whatever is behind it.

The module of a subclass has a fixture `make` (see the package's docstring). Most tests share one
started model, as the requests of a worker do; those that end a model make their own. The times in
here are generous on purpose: they tell a hanging model from a slow machine.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing

import pytest
from msgspec.structs import replace

from services.inference.core.demands import mismatch
from services.inference.ports import ChatModel, EngineBroken, EngineUnavailable
from shared.contracts.demands import Demands, ResponseFormat
from shared.errors import Broken, MillraceError, Permanent, Transient
from tests.contract.engines.chat_harness import (
    ADD,
    DEMANDS,
    SAMPLINGS,
    SOON,
    ChatHarness,
    MakeChat,
    asks,
    exactly,
    fresh,
    said,
    started,
)
from tests.contract.engines.schemas import random_schema

UNICODE = "naïve größe 漢字かな 🙂 \U0001f469\u200d\U0001f469 e\u0301 \u05e2\u05d1\u05e8"
SCHEMAS, AT_ONCE = 200, 16


@pytest.mark.asyncio(loop_scope="module")
class ChatSuite:
    """Inherit, in a module that defines the fixture `make`."""

    async def test_start_tells_what_the_model_can_do(self, make: MakeChat) -> None:
        async with started(make()) as (chat, info):
            assert min(info.context_tokens, info.capacity) > 0
            assert info.capacity == chat.stats().capacity
            assert chat.health() is None

    async def test_pieces_add_up_to_the_result(self, chat: ChatModel) -> None:
        one = await said(chat, asks(max_tokens=30))
        assert one.text == one.result.content
        assert [index for index, _ in one.pieces] == list(range(len(one.pieces)))
        assert all(text for _, text in one.pieces)
        assert one.answer.coalescer.cuts[-1:] == ((len(one.text),) if one.text else ())
        assert one.result.finish_reason in ("stop", "length")
        assert one.usage.prompt > 0
        assert 0 < one.usage.completion <= 30
        assert one.answer.first_token is not None

    async def test_sixteen_at_once_say_what_each_says_alone(
        self, harness: ChatHarness, chat: ChatModel
    ) -> None:
        harness.needs("greedy")
        texts = [f"{n} " + "and so on " * n for n in range(AT_ONCE)]
        alone = [(await said(chat, asks(text))).text for text in texts]
        together = await asyncio.gather(*(said(chat, asks(text)) for text in texts))
        assert [one.text for one in together] == alone

    @pytest.mark.parametrize("most", [1, 2, 7])
    async def test_an_answer_has_no_more_tokens_than_asked_for(
        self, harness: ChatHarness, chat: ChatModel, most: int
    ) -> None:
        question, whole = exactly(harness, "one two three four five six", max_tokens=most)
        one = await said(chat, question)
        assert one.result.finish_reason == "length"
        assert one.usage.completion == most
        assert whole.startswith(one.text)

    async def test_stop_strings_cut_exactly_wherever_tokens_end(
        self, harness: ChatHarness, chat: ChatModel
    ) -> None:
        harness.needs("stop")
        text = "The mill wheel turns, and turns again."
        whole = exactly(harness, text)[1]
        for first, last in ((2, 9), (4, 5), (7, 13), (len(whole) - 3, len(whole) - 1)):
            stop = whole[first:last]
            question, _ = exactly(harness, text, stop=(stop,), max_tokens=60)
            one = await said(chat, question)
            assert one.text == whole[: whole.index(stop)]
            assert one.result.content == one.text
            assert one.result.finish_reason == "stop"
            if "stop_string" not in harness.lacks:
                assert one.result.stop_string == stop

    async def test_the_beginning_of_a_stop_string_is_no_stop(
        self, harness: ChatHarness, chat: ChatModel
    ) -> None:
        harness.needs("stop")
        question, whole = exactly(harness, "so it ends", stop=("ends here", "sox"), max_tokens=60)
        one = await said(chat, question)
        assert one.text == whole
        assert one.result.stop_string is None

    async def test_characters_are_never_broken(self, harness: ChatHarness, chat: ChatModel) -> None:
        question, whole = exactly(harness, UNICODE, max_tokens=200)
        one = await said(chat, question)
        assert one.text == whole
        assert not any("\ufffd" in text for _, text in one.pieces)

    async def test_usage_is_what_the_tokenizer_counts(
        self, harness: ChatHarness, chat: ChatModel
    ) -> None:
        harness.needs("count")
        for text in ("hello", "größe 漢字", "word " * 40):
            question = asks(text, max_tokens=3)
            assert (await said(chat, question)).usage.prompt == await chat.count(question)
        longer = await chat.count(asks("word " * 80))
        assert longer > await chat.count(asks("word " * 40)) > 40

    async def test_an_abort_is_seen_and_reported(
        self, harness: ChatHarness, chat: ChatModel
    ) -> None:
        harness.needs("abort_result")
        question, whole = exactly(harness, "all work and no play " * 30, max_tokens=600)
        answer, text, begun = fresh(), "", 0.0
        async with asyncio.timeout(SOON):
            async for piece in chat.pieces(question, answer):
                if not begun:
                    begun = time.perf_counter()
                    await chat.abort(question.owner.request)
                text += piece[1] if isinstance(piece, tuple) else ""
        assert answer.result is not None
        assert answer.result.finish_reason == "aborted"
        assert time.perf_counter() - begun < SOON / 2
        assert whole.startswith(text)
        assert len(text) < len(whole)

    async def test_abort_of_an_unknown_or_finished_request_is_harmless(
        self, chat: ChatModel
    ) -> None:
        question = asks(max_tokens=3)
        await chat.abort("nobody")
        await said(chat, question)
        await chat.abort(question.owner.request)
        assert (await said(chat, asks(max_tokens=3))).usage.completion > 0

    async def test_closing_the_iterator_frees_the_slot(
        self, harness: ChatHarness, chat: ChatModel
    ) -> None:
        harness.needs("slots")
        question, _ = exactly(harness, "all work and no play " * 30, max_tokens=600)
        async with aclosing(chat.pieces(question, fresh())) as pieces:
            await anext(pieces)
            assert chat.stats().running == 1
        async with asyncio.timeout(SOON):
            while chat.stats().running:  # noqa: ASYNC110 - statistics give no event
                await asyncio.sleep(0)

    @pytest.mark.parametrize(
        ("field", "value"), [("temperature", -1.0), ("top_p", 1.5), ("max_tokens", 0)]
    )
    async def test_settings_that_mean_nothing_are_refused_by_name(
        self, harness: ChatHarness, chat: ChatModel, field: str, value: float
    ) -> None:
        harness.needs("settings")
        with pytest.raises(Permanent) as refused:
            await said(chat, asks(**{field: value}))
        assert (refused.value.code, refused.value.field) == ("invalid_request", field)

    async def test_nothing_to_answer_is_refused(self, chat: ChatModel) -> None:
        with pytest.raises(Permanent) as refused:
            await said(chat, asks([]))
        assert (refused.value.code, refused.value.field) == ("invalid_request", "messages")

    async def test_what_is_too_long_is_refused(self, harness: ChatHarness, chat: ChatModel) -> None:
        with pytest.raises(Permanent) as refused:
            await said(chat, asks(harness.long))
        assert (refused.value.code, refused.value.field) == ("context_too_long", "messages")
        assert (await said(chat, asks(max_tokens=2))).usage.completion > 0

    @pytest.mark.parametrize("name", [*DEMANDS, *SAMPLINGS])
    async def test_what_the_model_lacks_is_refused_and_not_ignored(
        self, harness: ChatHarness, chat: ChatModel, name: str
    ) -> None:
        question = asks("hello", DEMANDS.get(name), **SAMPLINGS.get(name, {}))
        if name not in harness.lacks:
            assert (await said(chat, question)).usage.completion > 0
            return
        with pytest.raises(Permanent) as refused:
            await said(chat, question)
        assert refused.value.code == "unsupported_demand"
        assert refused.value.field in (name, "presence_penalty")

    async def test_log_probabilities_are_those_of_the_text(
        self, harness: ChatHarness, chat: ChatModel
    ) -> None:
        harness.needs("logprobs")
        one = await said(chat, asks("hello", Demands(logprobs=2), max_tokens=6))
        assert one.answer.scores is not None
        scored = one.answer.scores.take(one.text)
        assert scored
        assert all(entry.logprob <= 0 and len(entry.top) <= 2 for entry in scored)

    async def test_a_seed_decides(self, harness: ChatHarness, chat: ChatModel) -> None:
        harness.needs("seed")
        runs = [
            (await said(chat, asks(temperature=1.0, seed=seed, max_tokens=12))).text
            for seed in (5, 5, 6, 7, 8)
        ]
        assert runs[0] == runs[1]
        assert len(set(runs)) > 1

    async def test_a_call_is_told_once_and_is_part_of_the_result(
        self, harness: ChatHarness, chat: ChatModel
    ) -> None:
        harness.needs("tools")
        if harness.calls is None:
            harness.needs("tool_choice")
        demands = Demands(tool_choice="auto" if harness.calls else "required")
        text = harness.calls() if harness.calls else "What is one and one?"
        constrains = "response_format" not in harness.lacks
        question = asks(text, demands, replace(ADD, strict=constrains), max_tokens=200)
        one = await said(chat, question)
        assert one.result.tool_calls == tuple(one.calls)
        assert one.result.finish_reason == "tool_calls"
        assert {call.name for call in one.calls} == {"add"}
        assert not any(mismatch(ADD.parameters, call.arguments) for call in one.calls)
        assert question.held.unmet(one.result) is None

    async def test_a_named_tool_is_called(self, harness: ChatHarness, chat: ChatModel) -> None:
        harness.needs("tools", "tool_choice")
        demands = Demands(tool_choice="function", function="add", parallel_tool_calls=False)
        one = await said(chat, asks("Say hello.", demands, ADD, max_tokens=200))
        assert [call.name for call in one.calls] == ["add"]

    async def test_two_hundred_schemas_are_kept(
        self, harness: ChatHarness, chat: ChatModel
    ) -> None:
        harness.needs("response_format")
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(seed: int) -> str:
            schema = random_schema(seed)
            form = ResponseFormat(type="json_schema", name="s", schema=schema, strict=True)
            demands = Demands(response_format=form)
            # warm, so that a model's favourite token is not all that is tried
            question = asks("Answer.", demands, max_tokens=700, temperature=0.9, seed=seed)
            async with turns:
                answered = await said(chat, question)
            assert answered.result.finish_reason == "stop", (schema, answered.text)
            assert answered.text == answered.result.content
            wrong = mismatch(schema, json.loads(answered.text))
            return f"{json.dumps(schema)}: {answered.text}: {wrong}" if wrong else ""

        wrong = [found for found in await asyncio.gather(*map(one, range(SCHEMAS))) if found]
        assert wrong == []

    async def test_a_failed_step_is_told_and_the_next_one_works(
        self, harness: ChatHarness, chat: ChatModel
    ) -> None:
        harness.needs("failed")
        assert harness.fail_next_step is not None
        harness.fail_next_step()
        with pytest.raises(Transient):
            await said(chat, asks())
        assert chat.health() is None
        assert (await said(chat, asks(max_tokens=2))).usage.completion == 2

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    async def test_a_broken_model_says_so(self, make: MakeChat) -> None:
        harness = make()
        harness.needs("broken")
        assert harness.break_next_step is not None
        async with started(harness) as (chat, _):
            harness.break_next_step()
            for _ in range(2):
                with pytest.raises(Broken) as broken:
                    await said(chat, asks())
                assert broken.value.code == "engine_broken"
            assert isinstance(chat.health(), EngineBroken)
        async with started(make()) as (chat, _):
            assert (await said(chat, asks(max_tokens=2))).usage.completion == 2

    async def test_close_twice_and_close_without_start(self, make: MakeChat) -> None:
        never, ended = make().chat, make().chat
        assert isinstance(never.health(), EngineUnavailable)
        await never.close()
        await never.close()
        await ended.start()
        await said(ended, asks(max_tokens=2))
        await ended.close()
        await ended.close()
        for closed in (never, ended):
            assert isinstance(closed.health(), EngineUnavailable)
            with pytest.raises(MillraceError) as refused:
                await said(closed, asks())
            assert refused.value.code == "engine_unavailable"
