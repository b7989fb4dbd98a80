"""The events of responses: the same while they happen and when they are read from the log later."""

from __future__ import annotations

from dataclasses import replace as moved
from itertools import pairwise
from random import Random

import orjson
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.ingress.core.responses.events import ATTEMPT, STRIDE, ResponseEvents
from services.ingress.core.responses.fold import TaskFold, responses_of
from services.ingress.core.responses.render import output_items
from shared.contracts import facts as f
from shared.contracts.log import Event, StoredFact
from shared.contracts.tokens import TokenDelta
from shared.events import Merger, deltas
from tests.unit.sessions.simulation import Life

Json = dict[str, object]
LOST = ((), ("text",), ("reasoning",), ("reasoning", "text"), ("reasoning", "reasoning"))
"""What an attempt that came to nothing may have told."""
randoms = st.randoms(use_true_random=True, note_method_calls=False)


def lived(random: Random, length: int) -> list[StoredFact]:
    """The log of a session with client tools, its texts cut anywhere."""
    life = Life(random)
    life.live(length)
    life.finish(workers=True)
    return [with_cuts(stored, random) for stored in life.world.log.facts]


def with_cuts(stored: StoredFact, random: Random) -> StoredFact:
    fact = stored.fact
    if not isinstance(fact, f.Inferred):
        return stored
    places = sorted(random.sample(range(1, len(fact.content)), random.randrange(4)))
    thought = random.choice(("", "Let me think."))
    told = sorted(random.sample(range(1, len(thought)), random.randrange(1, 4))) if thought else ()
    return moved(
        stored,
        fact=replace(
            fact,
            # a call may come without a word
            content=fact.content if random.random() < 0.7 or not fact.tool_calls else "",
            cuts=(*places, len(fact.content)),
            reasoning=thought,
            thought_cuts=tuple(told),
        ),
    )


def later(facts: list[StoredFact]) -> list[Event]:
    """What a viewer sees who comes when all is over."""
    merger = Merger()
    return [event for stored in facts for event in merger.fact(stored)]


def live(facts: list[StoredFact], random: Random) -> list[Event]:
    """What a viewer sees who is there: deltas first, of attempts that came to nothing too."""
    merger = Merger()
    events: list[Event] = []
    for stored, following in pairwise([*facts, None]):
        assert stored is not None
        early = following is not None and random.random() < 0.5 and overtakes(following, stored)
        if early:
            for delta in spoken(following.fact, random):
                events += merger.delta(delta, stored.time)
        if isinstance(stored.fact, f.Inferred):
            for delta in spoken(stored.fact, random):
                events += merger.delta(delta, stored.time)
        events += merger.fact(stored)
    return events


def overtakes(answer: StoredFact, result: StoredFact) -> bool:
    """Whether the words of an answer may be heard before the fact in front of it."""
    same = answer.task == result.task
    return same and isinstance(answer.fact, f.Inferred) and isinstance(result.fact, f.ToolDone)


def spoken(fact: f.Inferred, random: Random) -> list[TokenDelta]:
    """What the worker said of it in time, after one that was lost."""
    own = deltas(fact)[: random.randrange(len(deltas(fact)) + 1)]
    where = {"task": fact.task, "step": fact.step}
    lost = [
        replace(TokenDelta(**where, index=n, text="", attempt=number), **{kind: f"lost {n}"})
        for number in range(1, fact.attempt)
        for n, kind in enumerate(random.choice(LOST))
    ]
    return [*lost, *own]


def typed(events: list[Event], task: str, number: int) -> list[Json]:
    view = ResponseEvents(task, number)
    return [one for event in events if event.task == task for one in view.of(event)]


def number_of(event: Json) -> int:
    number = event["sequence_number"]
    assert isinstance(number, int)
    return number


def superseded(event: Json, kept: list[int]) -> bool:
    """Of an attempt that came to nothing: an event of a turn under way, and not in the log."""
    place = number_of(event) % STRIDE
    return place < 90 * ATTEMPT and number_of(event) not in kept


@given(randoms, st.integers(5, 100))
def test_the_same_events_with_the_same_numbers_come_again(random: Random, length: int) -> None:
    facts = lived(random, length)
    seen, read = live(facts, random), later(facts)
    for response in responses_of(facts):
        task, number = response.place.task, response.place.number
        then, now = typed(seen, task, number), typed(read, task, number)
        numbers = [number_of(event) for event in now]
        assert numbers == sorted(set(numbers))
        assert [number_of(one) for one in then] == sorted({number_of(one) for one in then})
        kept = [one for one in then if not superseded(one, numbers)]
        assert orjson.dumps(kept) == orjson.dumps(now)


@given(randoms, st.integers(5, 60))
def test_every_cut_goes_on_where_it_was(random: Random, length: int) -> None:
    facts = lived(random, length)
    read = later(facts)
    for response in responses_of(facts):
        whole = typed(read, response.place.task, response.place.number)
        for n, event in enumerate(whole):
            behind = [one for one in whole if number_of(one) > number_of(event)]
            assert behind == whole[n + 1 :]


@given(randoms, st.integers(5, 100))
def test_the_last_event_has_what_the_events_before_it_said(random: Random, length: int) -> None:
    facts = lived(random, length)
    read = later(facts)
    for response in responses_of(facts):
        events = typed(read, response.place.task, response.place.number)
        last = events[-1]
        if response.ended is None:
            continue
        done = [one for one in events if one["type"] == "response.output_item.done"]
        done.sort(key=lambda one: int(str(one["output_index"])))
        items = last["response"]["output"]  # type: ignore[index]
        whole = [item for item in items if item["status"] != "incomplete"]
        assert [one["item"] for one in done] == whole
        assert items == output_items(response)


@given(randoms, st.integers(5, 100))
def test_a_response_ends_once_and_the_next_begins_with_a_result(
    random: Random, length: int
) -> None:
    facts = lived(random, length)
    for task in {one.task for one in facts}:
        responses = TaskFold(task).fold(facts).responses
        for before, response in pairwise(responses):
            assert before.waiting
            assert before.end_seq < response.seq
            assert {one.tool_call_id for one in response.input} <= {
                call.id for call in before.waiting
            }
        done = next(
            (one for one in facts if one.task == task and isinstance(one.fact, f.Done)), None
        )
        assert done is None or not responses or not responses[-1].open


def test_an_end_is_behind_words_that_no_fact_holds() -> None:
    """Cancelled while the model speaks."""
    facts = next(
        found
        for seed in range(400)
        for found in [lived(Random(seed), 40)]  # noqa: S311  # no secret
        if len(found) > 3 and isinstance(found[1].fact, f.Accepted)
    )
    start, accepted = facts[0], facts[1]
    end = moved(accepted, seq=9, fact=f.Done(task=start.task, status="cancelled"), kind="done")
    merger = Merger()
    events = [event for stored in (start, accepted) for event in merger.fact(stored)]
    for index in range(3):
        delta = TokenDelta(task=start.task, step=0, index=index, text="word ", attempt=1)
        events += merger.delta(delta, 1.0)
    events += merger.fact(end)
    numbers = [number_of(one) for one in typed(events, start.task, 0)]
    assert len(numbers) == len(set(numbers)) > 5
    assert numbers == sorted(numbers)


def test_the_lives_hold_what_they_are_there_for() -> None:
    kinds: set[str] = set()
    most = 0
    for seed in range(40):
        random = Random(seed)  # noqa: S311  # no secret
        facts = lived(random, 100)
        seen = live(facts, random)
        for response in responses_of(facts):
            most = max(most, response.place.number)
            numbers = {
                number_of(one)
                for one in typed(later(facts), response.place.task, response.place.number)
            }
            for one in typed(seen, response.place.task, response.place.number):
                kinds.add(str(one["type"]))
                if number_of(one) not in numbers:
                    kinds.add("superseded")
    assert most > 0
    assert {
        "superseded",
        "response.output_text.delta",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.function_call_arguments.done",
        "response.mcp_call.completed",
        "response.mcp_call.failed",
        "response.completed",
        "response.failed",
    } <= kinds
