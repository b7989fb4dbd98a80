"""What holds in every life of a session, whatever is lost, repeated, late or killed."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sessions.core.state import SessionState
from shared.contracts import facts as f
from shared.contracts.log import StoredFact
from tests.fakes.session_world import AGENT, REF, fold
from tests.unit.sessions.simulation import Life, spent

randoms = st.randoms(use_true_random=True, note_method_calls=False)
lengths = st.integers(5, 120)


def lived(random: Random, length: int, *, workers: bool = True) -> Life:
    life = Life(random)
    life.live(length)
    life.finish(workers=workers)
    return life


@given(randoms, lengths, st.booleans())
def test_every_life_keeps_the_promises(random: Random, length: int, workers: bool) -> None:
    life = lived(random, length, workers=workers)
    facts = life.world.log.facts
    each_task_has_one_end(life)
    for known, actions in life.decisions:
        asked = set(life.published(actions))
        assert not life.results(known) & asked, "a step is decided that has a result"
        assert len({action.id for action in actions}) == len(actions), "an id stands for two"
    for n, stored in enumerate(facts):
        if isinstance(stored.fact, f.Done):
            the_end_follows_from(facts[:n], stored.fact)


def each_task_has_one_end(life: Life) -> None:
    done = [one.task for one in life.world.log.facts if isinstance(one.fact, f.Done)]
    assert sorted(done) == sorted(set(life.tasks))


def the_end_follows_from(facts: list[StoredFact], done: f.Done) -> None:
    """Sums and status are a function of the facts before."""
    if done.error is not None and done.error.code == "unknown_agent":
        return  # the only end that depends on something else: the agents of that moment
    sums, told = spent(facts, done.task), done.totals
    assert (told.infer_steps, told.usage, told.price) == (sums.infer_steps, sums.usage, sums.price)
    assert told.steps == told.infer_steps + told.tool_steps
    running = fold(facts).running
    if running is not None and running.task == done.task:
        assert (done.status, done.error) == (running.verdict, running.error)


@given(randoms, lengths)
def test_the_fold_does_not_mind_repetition(random: Random, length: int) -> None:
    life = lived(random, length)
    facts = life.world.log.facts
    whole = fold(facts)
    assert all(fold(facts, loop.state) == whole for loop in life.loops)
    state = SessionState(ref=REF)
    for n, stored in enumerate(facts, 1):
        state = fold([stored, stored], state)
        if random.random() < 0.2:
            state = fold(facts[random.randrange(n) : n], state)
    assert state == whole
    single = fold(numbered(one, 2 * n) for n, one in enumerate(facts, 1))
    double = fold(numbered(one, 2 * n + k) for n, one in enumerate(facts, 1) for k in (0, 1))
    assert shape(single) == shape(double)


def numbered(stored: StoredFact, seq: int) -> StoredFact:
    return StoredFact(
        seq, stored.time, REF, stored.kind, stored.rest, stored.task, stored.fact, stored.headers
    )


def shape(state: SessionState) -> object:
    """The state without its own sequence."""
    return state.queue, state.running, state.ended


def test_a_life_is_worth_looking_at() -> None:
    """The simulation reaches what it is there for; otherwise the rest proves nothing."""
    seen: set[str] = set()
    for seed in range(40):
        life = lived(Random(seed), 120)  # noqa: S311  # no secret
        for stored in life.world.log.facts:
            fact = stored.fact
            seen.add(stored.kind)
            if isinstance(fact, f.Done):
                seen.add(fact.error.code if fact.error else fact.status)
            if isinstance(fact, f.ToolFailed):
                seen.add(fact.error.code)
            if isinstance(fact, f.Parked):
                seen.add(fact.reason)
            if isinstance(fact, f.Approved) and fact.result == "mine says":
                seen |= {"client_result"} | ({"client_terms"} if fact.terms else set())
    expected = {"task", "accepted", "inferred", "infer_failed", "tool_done", "tool_failed"}
    expected |= {"cancelled", "timer", "done", "completed", "unknown_agent", "invalid_task"}
    expected |= {"tool_not_allowed", "deadline_exceeded", "step_limit", "token_limit"}
    expected |= {"client_tool", "client_result", "client_terms", "duplicate_tool", "unknown_tool"}
    expected |= {"missing_result"}
    assert expected <= seen, expected - seen


@pytest.mark.parametrize("workers", [True, False])
def test_a_crash_behind_the_acceptance_loses_no_deadline(workers: bool) -> None:
    life = Life(Random(1))  # noqa: S311  # no secret
    life.world.log.submit("helper", b'{"input":"hi"}', "t1")
    life.tasks.append("t1")
    loop = life.loops[0]
    loop.read(10)
    life.world.perform(loop.decided()[0])
    loop.crash()
    loop.work(life.random)
    assert life.world.timers
    life.finish(workers=workers)


def test_no_acceptance_overtakes_another() -> None:
    """Two loops that know different agents: whoever is behind must not start the second task."""
    life = Life(Random(1))  # noqa: S311  # no secret
    life.world.agents = {"helper": (1, AGENT), "other": (1, AGENT)}
    for task, agent in (("t1", "helper"), ("t2", "other")):
        life.world.log.submit(agent, b'{"input":"hi"}', task)
        life.tasks.append(task)
    behind, ahead = life.loops
    behind.read(10)
    ahead.read(10)
    ahead.work(life.random)
    life.world.agents = {"other": (1, AGENT)}
    for action in reversed(behind.decided()):
        life.world.perform(action)
    life.finish(workers=True)
    each_task_has_one_end(life)
