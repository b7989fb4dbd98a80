"""An embedding in a worker: its batches, their turns, what becomes of it when one of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.core.embedding import Bounds, batches, weight
from services.inference.handlers import EngineChat, Inference, Model
from services.inference.ports import Embedded, EngineFailed, EngineStats, InputTooLong
from shared.contracts.base import SessionRef
from shared.contracts.embeddings import EmbeddingInput, packed, unpacked
from shared.contracts.tokens import DirectEvent
from shared.contracts.work import DirectRequest, Target
from shared.errors import MillraceError
from shared.subjects import DIRECT_SESSION
from tests.fakes.scripted_model import scripted_model

inputs = st.lists(st.one_of(st.text(max_size=40), st.lists(st.integers(0, 9), max_size=40)))
bounds = st.builds(Bounds, st.integers(1, 5), st.integers(1, 30))


@given(inputs, bounds)
def test_batches_hold_every_input_once_in_order_and_within_the_bounds(each, most) -> None:
    found = list(batches(each, most))
    assert [place for start, stop in found for place in range(start, stop)] == list(
        range(len(each))
    )
    for start, stop in found:
        assert 1 <= stop - start <= most.inputs
        total = sum(map(weight, each[start:stop]))
        assert stop - start == 1 or total <= most.tokens


@given(inputs, bounds)
def test_no_batch_could_have_taken_what_begins_the_next_one(each, most) -> None:
    found = list(batches(each, most))
    for (start, stop), _ in pairwise(found):
        total = sum(map(weight, each[start : stop + 1]))
        assert stop - start == most.inputs or total > most.tokens


@dataclass
class Lengths:
    """A model whose vectors tell the length of the input. `fails` is raised by the n-th batch."""

    fails: dict[int, MillraceError] = field(default_factory=dict)
    pause: asyncio.Event | None = None
    width: int = 2
    asked: list[EmbeddingInput] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def embed(self, request: str, wanted: EmbeddingInput) -> Embedded | None:
        self.asked.append(wanted)
        self.begun.set()
        await asyncio.sleep(0)
        if self.pause is not None:
            await self.pause.wait()
        if request in self.aborted:
            return None
        if (error := self.fails.get(len(self.asked))) is not None:
            raise error
        vectors = tuple(packed([float(len(one))] * self.width) for one in wanted.each)
        return Embedded(vectors, sum(len(one) for one in wanted.each))

    async def abort(self, request: str) -> None:
        self.aborted.append(request)
        if self.pause is not None:
            self.pause.set()

    def health(self) -> None:
        return None

    def stats(self) -> EngineStats:
        raise AssertionError("nobody asks")


def worker(model: object, inputs: int = 2, slots: int = 1) -> Inference:
    ticks = iter(range(1_000_000))
    made = Model("m", "w", model, slots=slots, bounds=Bounds(inputs))  # type: ignore[arg-type]
    unused = (None, None, None)
    return Inference(made, *unused, clock=lambda: 0.0, ticks=lambda: float(next(ticks)))  # type: ignore[arg-type]


def asks(*texts: str, name: str = "e1", tenant: str = "t", **more: object) -> DirectRequest:
    wanted = EmbeddingInput(texts=texts, **more)  # type: ignore[arg-type]
    target = Target(model="m", worker="w", input_price=2_000_000, output_price=9)
    return DirectRequest(
        id=name, tenant=tenant, model="route", messages=(), target=target, embedding=wanted
    )


async def heard(events: AsyncIterator[DirectEvent]) -> list[DirectEvent]:
    return [event async for event in events]


def numbers(events: list[DirectEvent]) -> list[float]:
    return [unpacked(vector)[0] for event in events for vector in event.vectors]


async def test_the_vectors_of_all_batches_come_in_the_order_of_the_inputs() -> None:
    model = Lengths()
    *events, last = await heard(worker(model).complete(asks("a", "bb", "ccc", "dddd", "eeeee")))
    assert numbers(events) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert [one.texts for one in model.asked] == [("a", "bb"), ("ccc", "dddd"), ("eeeee",)]
    assert last.done is not None
    assert (last.done.usage.input, last.done.finish, last.error) == (15, "stop", None)
    assert last.done.timings.total_ms > 0


async def test_large_vectors_come_in_several_events() -> None:
    model = Lengths(width=20_000)  # 107 KB each
    *events, _ = await heard(worker(model, inputs=8).complete(asks("a", "bb", "ccc")))
    assert [len(event.vectors) for event in events] == [1, 1, 1]
    assert numbers(events) == [1.0, 2.0, 3.0]


async def test_what_is_asked_for_reaches_every_batch() -> None:
    model = Lengths()
    await heard(worker(model).complete(asks("a", "b", "c", dimensions=7)))
    assert [one.dimensions for one in model.asked] == [7, 7]


async def test_a_failure_of_the_first_batch_is_the_answer() -> None:
    model = Lengths({1: EngineFailed("gone", "provider_unavailable", 3.0)})
    with pytest.raises(EngineFailed) as failed:
        await heard(worker(model).complete(asks("a", "b", "c")))
    assert (failed.value.code, failed.value.retry_after) == ("provider_unavailable", 3.0)


async def test_what_was_read_before_a_failure_is_billed_and_its_input_named() -> None:
    inference = worker(Lengths({2: InputTooLong("too long", 1)}))
    request = asks("a", "bb", "ccc", "dddd")
    *_, last = await heard(inference.complete(request))
    assert last.error is not None
    assert (last.error.code, last.error.field) == ("context_too_long", "input.3")
    assert last.done is not None
    fact = inference.completed(request, last.done, last.error)
    assert (fact.kind, fact.usage.input, fact.price, fact.finish) == ("embedding", 3, 6, "aborted")
    assert fact.error is not None


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        (asks(), "empty_input", "input"),
        (asks("a", ""), "empty_input", "input.1"),
        (asks(*["a"] * 2049), "too_many_inputs", "input"),
        (asks("a", dimensions=0), "invalid_request", "dimensions"),
    ],
)
async def test_a_request_that_nobody_has_checked_is(request_, code, field) -> None:
    model = Lengths()
    with pytest.raises(MillraceError) as refused:
        await heard(worker(model).complete(request_))
    assert (refused.value.code, refused.value.field, model.asked) == (code, field, [])


async def test_a_model_of_text_refuses_by_name() -> None:
    chat = scripted_model("m", "w").chat
    assert isinstance(chat, EngineChat)
    with pytest.raises(MillraceError) as refused:
        await heard(worker(chat).complete(asks("a")))
    assert (refused.value.code, refused.value.field) == ("unsupported_demand", "model")
    fact = worker(chat).not_completed(asks("a"), refused.value.as_failure())
    assert (fact.kind, fact.usage.input, fact.price) == ("embedding", 0, 0)


async def test_an_abort_ends_what_runs_and_begins_no_further_batch() -> None:
    model = Lengths(pause=asyncio.Event())
    inference = worker(model)
    request = asks("a", "b", "c", "d")
    running = asyncio.create_task(heard(inference.complete(request)))
    await model.begun.wait()
    await inference.abort(SessionRef("t", DIRECT_SESSION), "e1")
    [last] = await running
    assert len(model.asked) == 1
    assert last.done is not None
    fact = inference.completed(request, last.done)
    assert fact.error is not None
    assert (fact.error.code, fact.finish) == ("client_gone", "aborted")


async def test_an_abort_between_two_batches_is_not_lost() -> None:
    model = Lengths()
    inference = worker(model)
    events = inference.complete(asks("a", "b", "c", "d"))
    await anext(events)
    await inference.abort(SessionRef("t", DIRECT_SESSION), "e1")
    [last] = await heard(events)
    assert len(model.asked) == 1
    assert last.done is not None
    assert (last.done.finish, last.done.usage.input) == ("aborted", 2)


async def test_between_two_batches_others_have_their_turn() -> None:
    model = Lengths()
    inference = worker(model, inputs=1)
    long = asks("long", "long", "long", "long", tenant="greedy")
    first = asyncio.create_task(heard(inference.complete(long)))
    second = asyncio.create_task(heard(inference.complete(asks("one", name="e2"))))
    await asyncio.gather(first, second)
    assert [one.texts[0] for one in model.asked].index("one") < 2
