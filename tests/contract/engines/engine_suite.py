"""The behaviour every engine must show, whatever computes the tokens.

A subclass gives `make`: a factory of an engine and switches that make its next step fail. The
times in here are generous on purpose: they tell a hanging engine from a slow machine.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, NamedTuple, Protocol

import pytest

from services.inference.core.blocks import block_names, overlap
from services.inference.core.demands import Constraint
from services.inference.ports import (
    ContextTooLong,
    Engine,
    EngineBroken,
    EngineChunk,
    EngineFailed,
    EngineFinished,
    EngineInfo,
    EngineUnavailable,
    Forgets,
    GenerateRequest,
    InvalidRequest,
    Sampling,
    TellsPrefixes,
    UnsupportedDemand,
)

GREEDY = Sampling(temperature=0)
SOON = 10.0


class Harness(NamedTuple):
    """One engine under test, not started.

    `fail_next_step` makes the next step fail, `break_next_step` makes it the last one (None: the
    engine cannot be made to break).
    """

    engine: Engine
    fail_next_step: Callable[[], None]
    break_next_step: Callable[[], None] | None = None


class MakeHarness(Protocol):
    """`max_sequences` and `kv_blocks` may be asked for; all else is the engine's default."""

    def __call__(self, *, max_sequences: int = 16, kv_blocks: int = 64) -> Harness: ...


class Answer(NamedTuple):
    """A whole generation."""

    token_ids: tuple[int, ...]
    finished: EngineFinished


@asynccontextmanager
async def started(harness: Harness) -> AsyncIterator[tuple[Engine, EngineInfo]]:
    try:
        yield harness.engine, await harness.engine.start()
    finally:
        await harness.engine.close()


def ask(name: str, prompt: Sequence[int], max_tokens: int = 12, **more: Any) -> GenerateRequest:
    more = {"sampling": GREEDY, **more}
    return GenerateRequest(request_id=name, prompt=tuple(prompt), max_tokens=max_tokens, **more)


def words(seed: int, length: int) -> list[int]:
    """A prompt of ordinary tokens that no other seed gives."""
    return [20 + (seed * 37 + place * (seed + 3)) % 200 for place in range(length)]


async def chunks_of(engine: Engine, request: GenerateRequest) -> list[EngineChunk]:
    return [chunk async for chunk in engine.generate(request)]


async def answer(engine: Engine, request: GenerateRequest) -> Answer:
    chunks = await asyncio.wait_for(chunks_of(engine, request), SOON)
    finished = chunks[-1].finished
    assert finished is not None
    return Answer(tuple(token for chunk in chunks for token in chunk.token_ids), finished)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110 - an engine's stats give no event to wait for
            await asyncio.sleep(0)  # an instant engine is done before any timer fires


class EngineSuite:
    """Inherit, and define the fixture `make`."""

    async def test_start_tells_what_the_engine_can_do(self, make: MakeHarness) -> None:
        async with started(make(max_sequences=3)) as (engine, info):
            assert info.capacity == engine.stats().capacity == 3
            assert min(info.context_tokens, info.vocabulary, info.kv_blocks) > 0

    async def test_one_terminal_chunk_and_nothing_after_it(self, make: MakeHarness) -> None:
        async with started(make()) as (engine, _):
            chunks = await chunks_of(engine, ask("a", words(1, 9), 5))
            assert [chunk.finished is not None for chunk in chunks].count(True) == 1
            finished = chunks[-1].finished
            assert finished is not None
            assert finished.reason == "length"
            assert sum(len(chunk.token_ids) for chunk in chunks) == 5
            assert (finished.usage.prompt, finished.usage.completion) == (9, 5)

    async def test_sixteen_interleaved_say_what_each_says_alone(self, make: MakeHarness) -> None:
        async with started(make()) as (engine, _):
            prompts = [words(n, 3 + 7 * n) for n in range(16)]
            together = await asyncio.gather(
                *(answer(engine, ask(f"t{n}", prompt, 16)) for n, prompt in enumerate(prompts))
            )
        async with started(make()) as (engine, _):
            alone = [
                await answer(engine, ask(f"a{n}", prompt, 16)) for n, prompt in enumerate(prompts)
            ]
        assert [a.token_ids for a in together] == [a.token_ids for a in alone]

    async def test_a_short_request_joins_a_running_batch(self, make: MakeHarness) -> None:
        async with started(make()) as (engine, _):
            order: list[str] = []

            async def run(name: str, tokens: int) -> None:
                await answer(engine, ask(name, words(len(name), 8), tokens))
                order.append(name)

            long = asyncio.create_task(run("long", 400))
            await until(lambda: engine.stats().running == 1)
            await run("in", 2)
            await long
            assert order == ["in", "long"]

    async def test_more_requests_than_slots_wait_their_turn(self, make: MakeHarness) -> None:
        async with started(make(max_sequences=2)) as (engine, _):
            answers = await asyncio.gather(
                *(answer(engine, ask(f"r{n}", words(n, 5), 6)) for n in range(7))
            )
            assert [len(a.token_ids) for a in answers] == [6] * 7

    async def test_a_stop_token_ends_and_is_not_shown(self, make: MakeHarness) -> None:
        async with started(make()) as (engine, _):
            free = await answer(engine, ask("free", words(4, 6), 12))
            stop = free.token_ids[5]
            seen = free.token_ids.index(stop)
            request = ask("stop", words(4, 6), 12, stop_token_ids=frozenset({stop}))
            stopped = await answer(engine, request)
            assert stopped.token_ids == free.token_ids[:seen]
            assert stopped.finished.reason == "stop"
            assert stopped.finished.usage.completion == seen + 1

    async def test_a_seed_decides(self, make: MakeHarness) -> None:
        async with started(make()) as (engine, _):
            warm = {s: Sampling(temperature=1.0, top_p=0.95, top_k=50, seed=s) for s in (-1, 2)}
            runs = [
                await answer(engine, ask(f"s{n}", words(5, 7), 12, sampling=warm[seed]))
                for n, seed in enumerate((-1, -1, 2))
            ]
            assert runs[0].token_ids == runs[1].token_ids != runs[2].token_ids

    async def test_logprobs_come_with_every_token(self, make: MakeHarness) -> None:
        async with started(make()) as (engine, _):
            chunks = await chunks_of(engine, ask("a", words(6, 5), 4, logprobs=3))
            entries = [entry for chunk in chunks for entry in chunk.logprobs]
            shown = [token for chunk in chunks for token in chunk.token_ids]
            assert [entry.token_id for entry in entries] == shown
            assert all(entry.logprob <= 0 and entry.top for entry in entries)

    async def test_log_probabilities_can_come_without_alternatives(self, make: MakeHarness) -> None:
        async with started(make()) as (engine, _):
            chunks = await chunks_of(engine, ask("a", words(6, 5), 4, logprobs=0))
            entries = [entry for chunk in chunks for entry in chunk.logprobs]
            assert [entry.top for entry in entries] == [()] * 4
            plain = await chunks_of(engine, ask("b", words(6, 5), 4))
            assert not any(chunk.logprobs for chunk in plain)

    async def test_a_token_that_is_biased_away_is_not_said(self, make: MakeHarness) -> None:
        async with started(make()) as (engine, info):
            free = await answer(engine, ask("free", words(4, 6), 12))
            bias = tuple((token, -100.0) for token in set(free.token_ids))
            request = ask("a", words(4, 6), 12, sampling=Sampling(temperature=0, logit_bias=bias))
            if "penalties" in info.abilities:
                assert not set((await answer(engine, request)).token_ids) & set(free.token_ids)
            else:
                with pytest.raises(UnsupportedDemand) as refused:
                    await answer(engine, request)
                assert refused.value.field == "logit_bias"

    async def test_what_was_said_weighs_less(self, make: MakeHarness) -> None:
        async with started(make()) as (engine, info):
            for name in ("frequency_penalty", "presence_penalty"):
                sampling = Sampling(temperature=0, **{name: 1000.0})
                request = ask(name, words(4, 6), 40, sampling=sampling)
                if "penalties" in info.abilities:
                    said = (await answer(engine, request)).token_ids
                    assert len(set(said)) == len(said) == 40
                else:
                    with pytest.raises(UnsupportedDemand) as refused:
                        await answer(engine, request)
                    assert refused.value.field == name

    async def test_a_constraint_is_kept_or_refused(self, make: MakeHarness) -> None:
        constraint = Constraint(value='{"const": 7}', strict=True)
        async with started(make()) as (engine, info):
            request = ask("a", words(4, 6), 12, constraint=constraint)
            if "constraint" in info.abilities:
                said = await answer(engine, request)
                assert said.finished.reason == "stop"
                assert len(said.token_ids) == 1
            else:
                with pytest.raises(UnsupportedDemand) as refused:
                    await answer(engine, request)
                assert (refused.value.code, refused.value.field) == (
                    "unsupported_demand",
                    "constraint",
                )

    async def test_abort_ends_with_aborted_and_frees_the_slot(self, make: MakeHarness) -> None:
        async with started(make(max_sequences=1)) as (engine, _):
            begun = 0.0
            last: EngineChunk | None = None
            async for chunk in engine.generate(ask("a", words(7, 8), 900)):
                if last is None:
                    begun = time.perf_counter()
                    await engine.abort("a")
                last = chunk
            assert last is not None
            assert last.finished is not None
            assert last.finished.reason == "aborted"
            assert last.finished.usage.completion < 900
            assert time.perf_counter() - begun < SOON / 2
            assert engine.stats().running == 0
            assert (await answer(engine, ask("b", words(8, 8), 3))).finished.reason == "length"

    async def test_abort_reaches_a_waiting_request(self, make: MakeHarness) -> None:
        async with started(make(max_sequences=1)) as (engine, _):
            first = asyncio.create_task(answer(engine, ask("a", words(1, 8), 700)))
            await until(lambda: engine.stats().running == 1)
            second = asyncio.create_task(answer(engine, ask("b", words(2, 8), 300)))
            await until(lambda: engine.stats().waiting == 1)
            await engine.abort("b")
            said = await second
            assert (said.token_ids, said.finished.reason) == ((), "aborted")
            assert (await first).finished.reason == "length"

    async def test_closing_the_iterator_frees_the_slot(self, make: MakeHarness) -> None:
        async with started(make(max_sequences=1)) as (engine, _):
            async with aclosing(engine.generate(ask("a", words(9, 8), 900))) as stream:
                await anext(stream)
            await until(lambda: engine.stats().running == 0)
            assert (await answer(engine, ask("a", words(9, 8), 3))).finished.reason == "length"

    async def test_abort_of_an_unknown_or_finished_id_is_harmless(self, make: MakeHarness) -> None:
        async with started(make()) as (engine, _):
            await engine.abort("nobody")
            before = await answer(engine, ask("a", words(1, 4), 3))
            await engine.abort("a")
            await engine.abort("a")
            assert (await answer(engine, ask("a", words(1, 4), 3))).token_ids == before.token_ids

    async def test_close_twice_and_close_without_start(self, make: MakeHarness) -> None:
        never = make().engine
        await never.close()
        await never.close()
        with pytest.raises(EngineUnavailable):
            await answer(never, ask("a", [30], 1))

    async def test_close_aborts_what_runs_and_refuses_the_rest(self, make: MakeHarness) -> None:
        engine = make().engine
        await engine.start()
        running = asyncio.create_task(answer(engine, ask("a", words(3, 8), 900)))
        await until(lambda: engine.stats().running == 1)
        await engine.close()
        assert (await running).finished.reason == "aborted"
        await engine.close()
        with pytest.raises(EngineUnavailable):
            await answer(engine, ask("b", [30], 1))

    async def test_bad_requests_are_refused_and_harm_nobody(self, make: MakeHarness) -> None:
        async with started(make()) as (engine, info):
            alone = await answer(engine, ask("alone", words(2, 8), 600))
            good = asyncio.create_task(answer(engine, ask("good", words(2, 8), 600)))
            await until(lambda: engine.stats().running == 1)
            bad = (
                ask("b1", []),
                ask("b2", [info.vocabulary]),
                ask("b3", [-1]),
                ask("b4", [30], 0),
                ask("b5", [30], sampling=Sampling(temperature=-1)),
                ask("b6", [30], sampling=Sampling(top_p=1.5)),
                ask("b7", [30], sampling=Sampling(top_k=-1)),
                ask("b8", [30], logprobs=-1),
                ask("b9", [30], sampling=Sampling(frequency_penalty=math.nan)),
                ask("c1", [30], sampling=Sampling(logit_bias=((info.vocabulary, 1.0),))),
                ask("c2", [30], sampling=Sampling(logit_bias=((1, math.inf),))),
                ask("good", [30]),  # in flight already
            )
            for request in bad:
                with pytest.raises(InvalidRequest) as refused:
                    await answer(engine, request)
                assert (refused.value.family, refused.value.code) == (
                    "permanent",
                    "invalid_request",
                )
            assert (await good).token_ids == alone.token_ids

    async def test_the_context_is_a_limit_and_can_be_filled(self, make: MakeHarness) -> None:
        async with started(make()) as (engine, info):
            prompt = words(5, info.context_tokens - 2)
            assert len((await answer(engine, ask("full", prompt, 2))).token_ids) == 2
            with pytest.raises(ContextTooLong) as refused:
                await answer(engine, ask("over", prompt, 3))
            assert refused.value.code == "context_too_long"

    async def test_usage_is_what_went_in_and_came_out(self, make: MakeHarness) -> None:
        async with started(make()) as (engine, _):
            before = engine.stats().tokens_generated
            said = [await answer(engine, ask(f"r{n}", words(n, 4 + 9 * n), 3 + n)) for n in (1, 4)]
            assert [a.finished.usage.prompt for a in said] == [13, 40]
            assert [a.finished.usage.completion for a in said] == [4, 7]
            assert [len(a.token_ids) for a in said] == [4, 7]
            assert engine.stats().tokens_generated - before == 11

    async def test_hints_change_no_token(self, make: MakeHarness) -> None:
        async with started(make()) as (engine, _):
            said = [
                (await answer(engine, ask(f"r{n}", words(4, 40), priority=priority, keep=keep)))
                for n, (priority, keep) in enumerate(
                    (("interactive", "usual"), ("batch", "short"), ("interactive", "long"))
                )
            ]
            assert said[0].token_ids == said[1].token_ids == said[2].token_ids

    async def test_a_known_prefix_is_reported_and_changes_nothing(self, make: MakeHarness) -> None:
        async with started(make()) as (engine, info):
            prompt = words(6, 4 * info.block_tokens + 3)
            first = await answer(engine, ask("a", prompt))
            again = await answer(engine, ask("b", prompt))
            other = await answer(engine, ask("c", prompt, cache_salt="another tenant"))
            assert first.finished.usage.cached == 0
            assert again.finished.usage.cached == 4 * info.block_tokens
            assert other.finished.usage.cached == 0
            assert first.token_ids == again.token_ids == other.token_ids
            stats = engine.stats()
            assert stats.prompt_tokens == 3 * len(prompt)
            assert stats.cached_tokens == 4 * info.block_tokens

    async def test_whoever_names_its_blocks_names_those_of_a_prompt(
        self, make: MakeHarness
    ) -> None:
        async with started(make()) as (engine, info):
            if not isinstance(engine, TellsPrefixes):
                pytest.skip("the engine cannot tell")
            prompt = words(3, 3 * info.block_tokens + 5)
            await answer(engine, ask("a", prompt, 3))
            names = block_names(prompt, info.block_tokens)
            await until(lambda: set(names) <= engine.prefixes().blocks)
            report = engine.prefixes()
            assert (report.block_tokens, overlap(names, report.blocks)) == (info.block_tokens, 3)
            other = block_names(words(4, 3 * info.block_tokens), info.block_tokens)
            assert overlap(other, report.blocks) == 0

    async def test_whoever_can_forgets_what_only_one_lineage_has_used(
        self, make: MakeHarness
    ) -> None:
        async with started(make()) as (engine, info):
            if not isinstance(engine, Forgets):
                pytest.skip("the engine cannot be told")
            size = info.block_tokens
            system, own, theirs = (words(n, 2 * size) for n in (3, 4, 5))

            async def cached(name: str, end: list[int], lineage: str) -> int:
                prompt = [*system, *end, 7]
                said = await answer(engine, ask(name, prompt, 3, lineage=lineage))
                return said.finished.usage.cached

            assert await cached("a", own, "one") == 0
            assert await cached("b", theirs, "two") == 2 * size
            engine.forget("one")
            engine.forget("nobody's")
            assert await cached("c", own, "three") == 2 * size  # what both have used is there
            assert await cached("d", theirs, "two") == 4 * size

    async def test_too_little_memory_costs_time_and_no_token(self, make: MakeHarness) -> None:
        requests = [ask(f"r{n}", words(n, 40), 70) for n in range(5)]
        async with started(make(kv_blocks=64)) as (engine, _):
            alone = [(await answer(engine, request)).token_ids for request in requests]
        async with started(make(kv_blocks=9)) as (engine, info):
            together = await asyncio.gather(*(answer(engine, request) for request in requests))
            assert [a.token_ids for a in together] == alone
            stats = engine.stats()
            assert stats.blocks_free + stats.blocks_cached == info.kv_blocks

    async def test_the_event_loop_is_never_blocked(self, make: MakeHarness) -> None:
        """Not even once in three: that would be the machine, which stands still at times."""
        async with started(make()) as (engine, _):
            rounds = [await self._longest_turn(engine, number) for number in range(3)]
            assert min(rounds) < 0.5

    async def _longest_turn(self, engine: Engine, number: int) -> float:
        """Seconds that the loop was away at most, while eight answers were made."""
        worst = 0.0

        async def tick() -> None:
            nonlocal worst
            while True:
                before = time.perf_counter()
                await asyncio.sleep(0.001)
                worst = max(worst, time.perf_counter() - before)

        ticker = asyncio.create_task(tick())
        asked = (ask(f"r{number}.{n}", words(n, 200), 60) for n in range(8))
        await asyncio.gather(*(answer(engine, one) for one in asked))
        ticker.cancel()
        return worst

    async def test_a_failed_step_leaves_the_engine_usable(self, make: MakeHarness) -> None:
        harness = make()
        async with started(harness) as (engine, info):
            before = await answer(engine, ask("a", words(8, 50)))
            harness.fail_next_step()
            with pytest.raises(EngineFailed) as failed:
                await answer(engine, ask("b", words(9, 50)))
            assert failed.value.family == "transient"
            after = await answer(engine, ask("c", words(8, 50)))
            assert after.token_ids == before.token_ids
            stats = engine.stats()
            assert stats.running == stats.waiting == 0
            assert stats.blocks_free + stats.blocks_cached == info.kv_blocks

    async def test_health_follows_the_life_of_the_engine(self, make: MakeHarness) -> None:
        harness = make()
        assert isinstance(harness.engine.health(), EngineUnavailable)
        async with started(harness) as (engine, _):
            assert engine.health() is None
            harness.fail_next_step()
            with pytest.raises(EngineFailed):
                await answer(engine, ask("a", words(9, 50)))
            assert engine.health() is None  # a step that fails is no end
        assert isinstance(harness.engine.health(), EngineUnavailable)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    async def test_a_broken_engine_says_so_and_leaves_nobody_waiting(
        self, make: MakeHarness
    ) -> None:
        harness = make()
        if harness.break_next_step is None:
            pytest.skip("this engine cannot be made to break")
        async with started(harness) as (engine, _):
            running = [
                asyncio.create_task(answer(engine, ask(f"r{n}", words(n, 8), 900)))
                for n in range(3)
            ]
            await until(lambda: engine.stats().running == 3)
            harness.break_next_step()
            for one in running:
                with pytest.raises(EngineBroken) as broken:
                    await one
                assert (broken.value.family, broken.value.code) == ("broken", "engine_broken")
            await until(lambda: engine.health() is not None)
            assert isinstance(engine.health(), EngineBroken)
            with pytest.raises(EngineBroken):
                await answer(engine, ask("later", words(1, 8)))
        async with started(make()) as (engine, _):  # another one does not care
            assert engine.health() is None
            assert len((await answer(engine, ask("a", words(1, 8), 4))).token_ids) == 4
