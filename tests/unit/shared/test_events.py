"""What a viewer sees: every fact and every token once, in order, from any place on."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts import facts as f
from shared.contracts.log import Event, StoredFact
from shared.contracts.tokens import TokenDelta
from shared.errors import Failure, Permanent
from shared.events import Cursor, Merger, parse_cursor, pieces
from tests.fakes.ledger_log import CALL, Recorder

Item = StoredFact | TokenDelta
randoms = st.randoms(use_true_random=True, note_method_calls=False)


# -- a session with its deltas -------------------------------------------------------------------


class Script:
    """A random session as the bus would carry it: facts in order, deltas around them."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.log = Recorder()
        self.items: list[Item] = []
        for n in range(random.choice((1, 2, 3))):
            self.task(f"t{n}")

    def add(self, fact: f.Fact, task: str = "") -> None:
        self.items.append(self.log.add(fact, float(len(self.log.facts)), task=task))

    def queued(self) -> None:
        """Another client submits something in the middle of it all."""
        if self.random.random() < 0.3:
            self.log.submit(f"q{len(self.log.facts)}", 0.0)
            self.items.append(self.log.facts[-1])

    def task(self, task: str) -> None:
        self.log.submit(task, 0.0)
        self.items.append(self.log.facts[-1])
        self.log.accept(task, 0.0)
        self.items.append(self.log.facts[-1])
        step, steps = 0, self.random.choice((1, 2, 3))
        for n in range(steps):
            if n == steps - 1 and self.random.random() < 0.2:  # cancelled while it speaks
                self.speak(task, step, 1, self.answer(task, step, 1, ()), whole=False)
                self.add(f.Cancelled(task=task))
                break
            calls = () if n == steps - 1 else (CALL,) * self.random.choice((1, 2))
            self.step(task, step, calls)
            step += len(calls) + 1
        self.add(f.Done(task=task, status="completed"))

    def step(self, task: str, step: int, calls: tuple[f.ToolCall, ...]) -> None:
        attempts = self.random.choice((1, 1, 2))
        answers = [self.answer(task, step, n + 1, calls) for n in range(attempts)]
        for answer in answers:
            self.speak(task, step, answer.attempt, answer, whole=answer is answers[-1])
            if answer is not answers[-1]:
                self.fails(task, step, answer.attempt)
        won = self.random.choice(answers)
        self.add(won)
        if self.random.random() < 0.2:
            self.add(self.random.choice(answers))  # the second result comes too late
        for n, call in enumerate(calls, step + 1):
            self.queued()
            self.waits(task, n, call)
            self.add(f.ToolDone(task=task, step=n, call=call.id, name=call.name, result="1"))

    def fails(self, task: str, step: int, attempt: int) -> None:
        """An attempt breaks off in the middle of its answer, and is tried again by and by."""
        if self.random.random() < 0.6:
            error = Failure(code="worker_lost", family="transient")
            self.add(f.InferFailed(task=task, step=step, error=error, attempt=attempt))
        if self.random.random() < 0.3:
            self.add(f.TimerFired(task=task, timer="retry", step=step, attempt=attempt + 1))
        if self.random.random() < 0.2:
            self.add(f.Steered(task=task, id=f"s{len(self.log.facts)}", text="hurry"))

    def waits(self, task: str, step: int, call: f.ToolCall) -> None:
        """A call is parked, tried and tried again."""
        here = {"task": task, "step": step, "call": call.id, "name": call.name}
        if self.random.random() < 0.2:
            self.add(f.Parked(task=task, step=step, reason="approval"))
            self.add(f.Approved(task=task, step=step))
        if self.random.random() < 0.2:
            self.add(f.ToolStarted(**here, executor="x"))
            self.add(f.ToolFailed(**here, error=Failure(code="busy"), retry=True))
            self.add(f.TimerFired(task=task, timer="retry", step=step, attempt=2))

    def answer(
        self, task: str, step: int, attempt: int, calls: tuple[f.ToolCall, ...]
    ) -> f.Inferred:
        parts = [f"{step}{attempt}{'abc'[n % 3]}" for n in range(self.random.randrange(6))]
        ends = [sum(map(len, parts[: n + 1])) for n in range(len(parts))]
        if self.random.random() < 0.2:
            parts.append("<unsent>")  # what the parser found to be no tool call after all
        return f.Inferred(
            task=task,
            step=step,
            content="".join(parts),
            cuts=tuple(ends),
            tool_calls=calls,
            attempt=attempt,
        )

    def speak(self, task: str, step: int, attempt: int, said: f.Inferred, *, whole: bool) -> None:
        sent = [
            TokenDelta(task=task, step=step, index=index, text=text, attempt=attempt)
            for index, text in enumerate(pieces(said)[: len(said.cuts)])
        ]
        for delta in sent if whole else sent[: self.random.randrange(len(sent) + 1)]:
            self.queued()
            self.items.append(delta)

    def disturbed(self) -> list[Item]:
        """Deltas are lost, and anything comes again later."""
        items = [
            item
            for item in self.items
            if isinstance(item, StoredFact) or self.random.random() > 0.15
        ]
        for _ in range(self.random.randrange(6)):
            n = self.random.randrange(len(items))
            items.insert(self.random.randint(n, len(items)), items[n])
        return items


def show(merger: Merger, items: list[Item]) -> list[Event]:
    events: list[Event] = []
    for item in items:
        found = merger.fact(item) if isinstance(item, StoredFact) else merger.delta(item, 0.0)
        events += found
    return events


@dataclass
class Screen:
    """A viewer that starts an answer over when another attempt begins to speak."""

    text: dict[tuple[str, int], tuple[int, list[str]]] = field(default_factory=dict)
    facts: list[int] = field(default_factory=list)
    answered: set[tuple[str, int]] = field(default_factory=set)

    def see(self, events: list[Event]) -> Screen:
        for event in events:
            if isinstance(event.data, TokenDelta):
                self.hear(event.data)
            else:
                self.facts.append(parse_cursor(event.id).seq)
            if isinstance(event.data, f.Inferred):
                self.check(event.data)
        return self

    def hear(self, delta: TokenDelta) -> None:
        key = (delta.task, delta.step)
        assert key not in self.answered, "an answer goes on behind its fact"
        attempt, parts = self.text.get(key, (0, []))
        if attempt != delta.attempt:
            parts = []
        assert delta.index == len(parts), "a gap or a repetition"
        self.text[key] = (delta.attempt, [*parts, delta.text])

    def check(self, fact: f.Inferred) -> None:
        key = (fact.task, fact.step)
        if key not in self.answered:
            attempt, parts = self.text.get(key, (0, []))
            assert "".join(parts if attempt == fact.attempt else []) == fact.content
        self.answered.add(key)


@given(randoms)
def test_whatever_happens_on_the_way_all_is_seen_once(random: Random) -> None:
    script = Script(random)
    events = show(Merger(), script.disturbed())
    screen = Screen().see(events)
    assert screen.facts == [stored.seq for stored in script.log.facts]
    assert len({event.id for event in events if not isinstance(event.data, TokenDelta)}) == len(
        screen.facts
    )


@given(randoms)
def test_within_one_attempt_no_token_is_seen_twice(random: Random) -> None:
    """A step that is tried again starts over under a higher number; nothing comes back later."""
    script = Script(random)
    seen: dict[tuple[str, int], tuple[int, int]] = {}
    answered: set[tuple[str, int]] = set()
    for event in show(Merger(), script.items):
        if isinstance(event.data, f.Inferred):
            answered.add((event.data.task, event.data.step))
        if not isinstance(event.data, TokenDelta):
            continue
        place = (event.data.task, event.data.step)
        assert place not in answered
        attempt, index = seen.get(place, (0, -1))
        if event.data.attempt > attempt:
            index = -1
        elif event.data.attempt < attempt:  # an earlier attempt has won after all: whole
            assert event.data.index == 0
            index = -1
        assert event.data.index == index + 1
        seen[place] = (event.data.attempt, event.data.index)


@given(randoms)
def test_every_cursor_leads_to_exactly_the_rest(random: Random) -> None:
    script = Script(random)
    events = show(Merger(), script.disturbed())
    for n in random.sample(range(len(events)), min(len(events), 6)):
        event = events[n]
        again = Merger(parse_cursor(event.id))
        again.learn(turns(script.log.facts, again.seq) if n % 3 else script.log.facts)
        late = [item for item in script.items if isinstance(item, TokenDelta)]
        random.shuffle(late)
        rest = show(again, [*script.log.facts, *late[:5]] if n % 2 else script.disturbed())
        screen = Screen().see(events[: n + 1]).see(rest)
        assert screen.facts == [stored.seq for stored in script.log.facts]


@given(randoms)
def test_an_old_delta_is_not_shown_to_who_comes_late(random: Random) -> None:
    """TOKENS keeps them for minutes; the whole session has been seen by then."""
    script = Script(random)
    everything = [item for item in script.items if isinstance(item, TokenDelta)]
    merger = Merger()
    show(merger, list(script.log.facts))
    assert show(merger, everything) == []
    resumed = Merger(Cursor(script.log.facts[-1].seq))
    assert show(resumed, everything) == []


def turns(facts: list[StoredFact], upto: int) -> list[StoredFact]:
    """What the log is asked for when a viewer resumes: the last fact of each subject that tells."""
    told = {
        (one.kind, one.rest): one
        for one in facts
        if one.seq <= upto and one.kind in ("accepted", "inferred", "done")
    }
    return sorted(told.values(), key=lambda one: one.seq)


# -- single cases --------------------------------------------------------------------------------


def speaking(parts: int = 3) -> tuple[Recorder, list[TokenDelta], f.Inferred]:
    """A task whose first step speaks."""
    log = Recorder()
    log.submit("t1", 0.0)
    log.accept("t1", 0.1)
    texts = [f"{n}." for n in range(parts)]
    cuts = tuple(2 * (n + 1) for n in range(parts))
    deltas = [TokenDelta(task="t1", step=0, index=n, text=text) for n, text in enumerate(texts)]
    return log, deltas, f.Inferred(task="t1", step=0, content="".join(texts), cuts=cuts)


def test_deltas_come_before_their_fact_and_only_those_that_are_missing() -> None:
    log, deltas, said = speaking()
    events = show(Merger(), [*log.facts, deltas[0], log.add(said, 1.0)])
    assert [event.kind for event in events] == [
        "task",
        "accepted",
        "delta",
        "delta",
        "delta",
        "inferred",
    ]
    assert [event.id for event in events[2:]] == ["2:t1.0.1.0", "2:t1.0.1.1", "2:t1.0.1.2", "3"]


def test_a_delta_behind_a_gap_is_left_to_the_fact() -> None:
    log, deltas, _ = speaking()
    assert len(show(Merger(), [*log.facts, deltas[0], deltas[2]])) == 3


def test_a_new_attempt_starts_over() -> None:
    log, deltas, said = speaking()
    second = TokenDelta(task="t1", step=0, index=0, text="0.", attempt=2)
    won = f.Inferred(task="t1", step=0, content=said.content, cuts=said.cuts, attempt=2)
    events = show(Merger(), [*log.facts, *deltas[:2], second, deltas[2], log.add(won, 1.0)])
    seen = [event.data for event in events if isinstance(event.data, TokenDelta)]
    assert [(one.attempt, one.index) for one in seen] == [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]


def test_a_fact_in_the_middle_of_an_answer_keeps_the_place_in_it() -> None:
    log, deltas, said = speaking()
    merger = Merger()
    show(merger, [*log.facts, deltas[0]])
    log.submit("t2", 0.5)
    (event,) = merger.fact(log.facts[-1])
    assert parse_cursor(event.id) == Cursor(3, "t1", 0, 1, 0)
    rest = show(Merger(parse_cursor(event.id)), [log.add(said, 1.0)])
    assert [one.data.index for one in rest if isinstance(one.data, TokenDelta)] == [1, 2]


def test_who_resumes_behind_a_fact_hears_the_step_live_once_it_learns_of_it() -> None:
    log, deltas, _ = speaking()
    blind, knowing = Merger(Cursor(2)), Merger(Cursor(2))
    knowing.learn(log.facts)
    assert show(blind, [deltas[0]]) == []
    assert len(show(knowing, [deltas[0]])) == 1


@pytest.mark.parametrize("resumes", [False, True])
def test_a_task_that_is_accepted_after_its_end_takes_no_turn(resumes: bool) -> None:
    """An owner that was slow writes it still; the log keeps it, and nobody decides on it."""
    log = Recorder()
    log.submit("t0", 0.0)
    log.add(f.Done(task="t0", status="cancelled"), 0.1)
    log.submit("t1", 0.2)
    log.accept("t1", 0.3)
    log.accept("t0", 0.4)
    merger = Merger(Cursor(log.facts[-1].seq) if resumes else None)
    merger.learn(log.facts if resumes else [])
    events = show(merger, [*log.facts, TokenDelta(task="t1", step=0, index=0, text="hi")])
    assert events[-1].kind == "delta"


def test_the_answer_is_cut_where_it_was_cut() -> None:
    assert pieces(f.Inferred(task="t", step=0, content="abcdef", cuts=(2, 4))) == ["ab", "cd", "ef"]
    assert pieces(f.Inferred(task="t", step=0, content="abcd", cuts=(2, 4))) == ["ab", "cd"]
    assert pieces(f.Inferred(task="t", step=0, content="abcd")) == ["abcd"]
    assert pieces(f.Inferred(task="t", step=0)) == []


@pytest.mark.parametrize(
    ("text", "cursor"),
    [
        ("", Cursor()),
        ("0", Cursor()),
        ("17", Cursor(17)),
        ("17:t-1_x.2.1.30", Cursor(17, "t-1_x", 2, 1, 30)),
    ],
)
def test_a_cursor_is_a_place(text: str, cursor: Cursor) -> None:
    assert parse_cursor(text) == cursor


@pytest.mark.parametrize(
    "text",
    ["x", "-1", "1.5", "17:", "17:t", "17:t.1.2", "17:t.1.2.3.4", "17:a b.1.2.3", "1\n", "9" * 20],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(Permanent) as caught:
        parse_cursor(text)
    assert (caught.value.code, caught.value.field) == ("invalid_cursor", "after")
