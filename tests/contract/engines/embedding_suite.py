"""What every model that `Embeds` has to do."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import pytest

from services.inference.core.answering import Answer, Owner, Question
from services.inference.core.demands import Held
from services.inference.ports import (
    ChatModel,
    Embedded,
    Embeds,
    EngineInfo,
    EngineUnavailable,
    InputTooLong,
    UnsupportedDemand,
)
from shared import clock
from shared.contracts.agents import Sampling
from shared.contracts.demands import Demands
from shared.contracts.embeddings import EmbeddingInput, unpacked

SOON = 20.0
TEXTS = ("The cat sleeps.", "A kitten is napping.", "Interest rates rose again last week.")
_names = itertools.count()


class Embedder(ChatModel, Embeds, Protocol):
    """What is held to this suite."""


@dataclass(frozen=True)
class EmbedHarness:
    """One model under test, not started. `tokens`: an input in its token ids, None where it takes
    texts only; `long`: a text that is too long for it, None where such are cut."""

    model: Embedder
    tokens: tuple[int, ...] | None = None
    long: str | None = None


MakeEmbedder = Callable[[], EmbedHarness]


@asynccontextmanager
async def started(harness: EmbedHarness) -> AsyncIterator[tuple[Embedder, EngineInfo]]:
    try:
        yield harness.model, await harness.model.start()
    finally:
        await harness.model.close()


async def embedded(model: Embedder, wanted: EmbeddingInput) -> Embedded:
    async with asyncio.timeout(SOON):
        found = await model.embed(f"e-{next(_names)}", wanted)
    assert found is not None
    return found


def texts(*each: str, dimensions: int | None = None) -> EmbeddingInput:
    return EmbeddingInput(texts=each, dimensions=dimensions)


def alike(one: str, other: str) -> float:
    """Cosine similarity of two packed vectors."""
    left, right = unpacked(one), unpacked(other)
    return math.sumprod(left, right) / (math.hypot(*left) * math.hypot(*right))


def lengths(vectors: Sequence[str]) -> set[int]:
    return {len(unpacked(vector)) for vector in vectors}


class EmbeddingSuite:
    """Inherit, and give a fixture `make`."""

    async def test_it_says_that_it_gives_vectors_and_how_much_it_takes(self, make) -> None:
        async with started(make()) as (model, info):
            assert isinstance(model, Embeds)
            assert info.abilities == {"embeddings"}
            assert info.bounds.inputs >= 1
            assert info.bounds.tokens >= 1
            found = await embedded(model, texts(TEXTS[0]))
            assert not info.dimensions or lengths(found.vectors) == {info.dimensions}

    async def test_there_is_one_vector_for_each_input_in_their_order(self, make) -> None:
        async with started(make()) as (model, _):
            together = await embedded(model, texts(*TEXTS))
            alone = [await embedded(model, texts(one)) for one in TEXTS]
        assert len(together.vectors) == len(TEXTS)
        assert len(lengths(together.vectors)) == 1
        for one, other in zip(together.vectors, alone, strict=True):
            assert alike(one, other.vectors[0]) > 0.999
        assert alike(*together.vectors[:2]) < 0.999
        assert together.tokens == sum(one.tokens for one in alone) > 0

    async def test_neighbours_change_nothing(self, make) -> None:
        async with started(make()) as (model, _):
            [alone] = (await embedded(model, texts(TEXTS[1]))).vectors
            found = await asyncio.gather(*(embedded(model, texts(one, TEXTS[1])) for one in TEXTS))
        assert all(alike(one.vectors[1], alone) > 0.999 for one in found)

    async def test_token_ids_are_an_input(self, make) -> None:
        harness = make()
        if harness.tokens is None:
            pytest.skip("the model takes texts only")
        async with started(harness) as (model, _):
            wanted = EmbeddingInput(tokens=(harness.tokens, harness.tokens[:1]))
            found = await embedded(model, wanted)
        assert len(found.vectors) == 2
        assert found.tokens == len(harness.tokens) + 1

    async def test_a_length_that_it_does_not_have_is_refused_by_name(self, make) -> None:
        async with started(make()) as (model, _):
            [length] = lengths((await embedded(model, texts(TEXTS[0]))).vectors)
            same = await embedded(model, texts(TEXTS[0], dimensions=length))
            assert lengths(same.vectors) == {length}
            with pytest.raises(UnsupportedDemand) as refused:
                await embedded(model, texts(TEXTS[0], dimensions=length + 1))
            assert refused.value.field == "dimensions"

    async def test_an_input_that_is_too_long_is_named_and_does_no_harm(self, make) -> None:
        harness = make()
        if harness.long is None:
            pytest.skip("the model cuts what is too long")
        async with started(harness) as (model, info):
            for _ in range(5):  # however often: that says nothing about the model
                with pytest.raises(InputTooLong) as refused:
                    await embedded(model, texts(TEXTS[0], harness.long))
                assert (refused.value.code, refused.value.field) == ("context_too_long", "input.1")
            assert model.stats().capacity == info.capacity
            assert (await embedded(model, texts(TEXTS[0]))).vectors

    async def test_more_tokens_than_its_context_has_are_refused_before_it_is_asked(
        self, make
    ) -> None:
        async with started(make()) as (model, info):
            wanted = EmbeddingInput(tokens=((1,), (1,) * (info.context_tokens + 1)))
            with pytest.raises(InputTooLong) as refused:
                await embedded(model, wanted)
            assert refused.value.place == 1

    async def test_an_abort_ends_it_and_frees_its_slot(self, make) -> None:
        async with started(make()) as (model, info):
            many = texts(*(TEXTS * 40)[: info.bounds.inputs])
            running = asyncio.create_task(model.embed("gone", many))
            await asyncio.sleep(0)
            await model.abort("gone")
            async with asyncio.timeout(SOON):
                assert await running is None
            await model.abort("gone")
            assert model.stats().running == 0
            assert (await embedded(model, texts(TEXTS[0]))).vectors

    async def test_it_talks_with_nobody(self, make) -> None:
        sampling, owner = Sampling(max_tokens=4), Owner("q", "t")
        messages = [{"role": "user", "content": "Hi"}]
        question = Question(messages, Held(Demands(), ()), sampling, owner)
        async with started(make()) as (model, _):
            with pytest.raises(UnsupportedDemand) as refused:
                await anext(model.pieces(question, Answer(0.0, clock.monotonic)))
            assert refused.value.field == "model"
            with pytest.raises(UnsupportedDemand):
                await model.count(question)

    async def test_it_is_used_between_start_and_close_only(self, make) -> None:
        harness = make()
        with pytest.raises(EngineUnavailable):
            await embedded(harness.model, texts(TEXTS[0]))
        async with started(harness) as (model, _):
            await embedded(model, texts(TEXTS[0]))
        with pytest.raises(EngineUnavailable):
            await embedded(model, texts(TEXTS[0]))
        await model.close()
