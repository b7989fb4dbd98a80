"""The log of a fork: what it takes over, what it changes, and where it can begin."""

from __future__ import annotations

from dataclasses import replace as moved
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sessions.core.decide import Publish, SetTimer, World, decide
from services.sessions.core.fork import forked
from services.sessions.core.state import SessionState
from shared.contracts import facts as f
from shared.contracts.agents import AgentSpec, Limits
from shared.contracts.base import SessionRef
from shared.contracts.control import ForkSession
from shared.contracts.log import StoredFact
from shared.errors import Failure, Permanent
from shared.fork import fork_request, inherited, origin_of, parent_of
from shared.transcript import Transcript
from tests.fakes.session_world import AGENTS, fold
from tests.unit.sessions.case import ADD, LOOK, Case, ran, said
from tests.unit.sessions.simulation import Life

CHILD = SessionRef("acme", "f1")
LATER = 5000.0
randoms = st.randoms(use_true_random=True, note_method_calls=False)


def fork(facts: list[StoredFact], step: int, task: str = "", **changes) -> list[StoredFact]:
    """The log of a fork, as `RunLog.read` puts it together."""
    fact = forked("s1", facts, ForkSession(session="f1", step=step, task=task, **changes))
    seq, time = facts[-1].seq + 3, facts[-1].time + LATER
    origin = StoredFact(seq, time, CHILD, "forked", "", fact.task, fact)
    return [*inherited(facts, origin), origin]


def state_of(facts: list[StoredFact]) -> SessionState:
    return fold(facts, SessionState(ref=CHILD))


def work_of(facts: list[StoredFact]) -> list[tuple[str, int]]:
    state = state_of(facts)
    actions = decide(state, World(now=facts[-1].time, agents=dict(AGENTS)))
    assert all(one.work.ref == CHILD for one in actions if isinstance(one, Publish))
    return [(one.work.task, one.work.step) for one in actions if isinstance(one, Publish)]


def two_rounds() -> Case:
    """Two tools at once (their answers came the other way round), then one, then the end."""
    case = Case().running()
    case.add(said(0, ADD, LOOK), ran(2, LOOK), ran(1, ADD), said(3, ADD), ran(4, ADD), said(5))
    return case.appended()


@pytest.mark.parametrize(
    ("step", "wanted"), [(0, {0}), (1, {1, 2}), (2, {2}), (3, {3}), (4, {4}), (5, {5})]
)
def test_the_steps_from_the_cut_on_are_to_be_done(step: int, wanted: set[int]) -> None:
    facts = fork(two_rounds().log.facts, step)
    assert work_of(facts) == [("t1", one) for one in sorted(wanted)]
    assert {one.ref for one in facts} == {CHILD}


def test_the_clock_and_the_sums_start_anew() -> None:
    facts = fork(two_rounds().log.facts, 5)
    running = state_of(facts).running
    assert running
    now = facts[-1].time
    assert (running.started, running.watched, running.deadline) == (now, now, now + 60.0)
    assert running.totals == f.Totals()
    actions = decide(state_of(facts), World(now=now, agents={}))
    assert [one.at for one in actions if isinstance(one, SetTimer)] == [now + 60.0]


def test_a_fork_is_paid_by_whoever_made_it() -> None:
    running = state_of(fork(two_rounds().log.facts, 5, key="k2")).running
    assert running
    assert running.key == "k2"


def test_a_step_that_waited_for_its_next_try_is_due_and_one_that_is_parked_stays() -> None:
    case = Case(agents={"helper": (1, AgentSpec(name="helper", tools=("add",), approve=("look",)))})
    case.running().add(said(0, ADD, LOOK, ADD))
    case.add(f.Parked(task="t1", step=2, reason="unknown_outcome"))
    busy = Failure(code="busy", family="transient", retry_after=9000.0)
    again = f.ToolFailed(task="t1", step=1, call=ADD.id, name="add", error=busy, retry=True)
    facts = fork(case.add(again, ran(3, ADD)).log.facts, 3)
    running = state_of(facts).running
    assert running
    assert running.waiting_since is None, "what was behind the last result is gone"
    kept = fork(case.log.facts, 3, results={"3": "x"})
    running = state_of(kept).running
    assert running
    assert [(one.step, one.attempt, one.due, one.parked) for one in running.pending] == [
        (1, 2, None, None),
        (2, 1, None, "unknown_outcome"),
    ]
    assert running.waiting_since == running.pending[1].parked_at == kept[-1].time


def test_a_limit_that_was_raised_stays_raised() -> None:
    agent = AgentSpec(name="helper", tools=("add",), limits=Limits(max_steps=2), on_limit="pause")
    case = Case(agents={"helper": (1, agent)}).running().add(said(0, ADD), ran(1, ADD))
    case.appended()
    more = f.Approved(task="t1", step=2, hold=1, limits=f.LimitsPatch(max_steps=7))
    facts = fork(case.add(more, said(2)).appended().log.facts, 2)
    running = state_of(facts).running
    assert running
    assert (running.limits.max_steps, [one.step for one in running.pending]) == (7, [2])


def test_changes() -> None:
    facts = fork(
        two_rounds().log.facts, 3, input="other", route="fast", results={"1": "one", "2": "two"}
    )
    messages = Transcript().fold(facts).messages()
    assert messages[1]["content"] == "other"
    assert [one["content"] for one in messages if one["role"] == "tool"] == ["one", "two"]
    running = state_of(facts).running
    assert running
    assert running.accepted.agent.route == "fast"


@pytest.mark.parametrize(
    "answer",
    [
        f.ToolFailed(task="t1", step=1, call=LOOK.id, name="look", error=Failure(code="x")),
        f.Approved(task="t1", step=1, result="by hand"),
        f.Rejected(task="t1", step=1),
        f.TimerFired(task="t1", timer="approval", step=1),
    ],
)
def test_any_result_of_a_tool_can_be_replaced(answer: f.Fact) -> None:
    parked = f.Parked(task="t1", step=1, reason="approval")
    case = Case().running().add(said(0, LOOK), parked, answer, said(2)).appended()
    facts = fork(case.log.facts, 2, results={"1": "better"})
    assert Transcript().fold(facts).messages()[-1]["content"] == "better"
    assert work_of(facts) == [("t1", 2)]


def test_tasks_that_waited_stay_behind_and_those_that_had_ended_come_along() -> None:
    case = Case().running("t0").add(said(0, task="t0")).appended()
    case.running().submit("t2").add(said(0, ADD), ran(1, ADD)).submit("t3")
    facts = fork(case.log.facts, 2)
    state = state_of(facts)
    assert (state.ended, state.queue) == (frozenset({"t0"}), ())
    assert work_of(facts) == [("t1", 2)]


def test_the_last_task_that_started_is_meant() -> None:
    case = two_rounds().running("t2").submit("t3")
    assert forked("s1", case.log.facts, ForkSession(session="f1", step=0)).task == "t2"


def test_a_task_that_goes_on_with_another_has_no_input_of_its_own() -> None:
    case = Case().running()
    wrong = Failure(code="context_too_long", detail="no")
    case.add(f.InferFailed(task="t1", step=0, error=wrong)).appended()
    case.submit("t1r", body=b'{"input": "", "retry_of": "t1"}').appended()
    assert work_of(fork(case.log.facts, 0)) == [("t1r", 0)]
    with pytest.raises(Permanent, match="fork that one"):
        fork(case.log.facts, 0, input="other")


def test_a_cancelled_task_runs_on_in_its_fork() -> None:
    case = Case().running().add(said(0, ADD), f.Cancelled(task="t1"), ran(1, ADD)).appended()
    assert work_of(fork(case.log.facts, 1)) == [("t1", 1)]


@pytest.mark.parametrize(
    ("at", "code"), [("", "invalid_step"), ("-1", "invalid_step"), ("a b.1", "invalid_name")]
)
def test_a_place_that_is_none(at: str, code: str) -> None:
    with pytest.raises(Permanent) as caught:
        fork_request("f1", at, {})
    assert caught.value.code == code


def test_places() -> None:
    assert fork_request("f1", 4, {}) == ForkSession(session="f1", step=4)
    asked = fork_request("f1", "t1.4", {"results": {3: "x"}})
    assert asked == ForkSession(session="f1", step=4, task="t1", results={"3": "x"})


def test_only_a_first_fact_that_is_younger_than_the_parents_makes_a_fork() -> None:
    facts = fork(two_rounds().log.facts, 3)
    origin = facts[-1]
    assert origin_of([]) is None
    assert origin_of(facts) is None
    assert origin_of([origin]) == origin
    assert origin_of([origin], before=origin.seq) is None
    assert parent_of(origin) == SessionRef("acme", "s1")
    late = moved(origin, seq=facts[2].seq)
    assert [one.seq for one in inherited(facts[:-1], late)] == [one.seq for one in facts[:2]]


def spoken(facts: list[StoredFact]) -> list[dict[str, object]]:
    """What a model is shown, without the instructions."""
    return [one for one in Transcript().fold(facts).messages() if one["role"] != "system"]


@given(randoms, st.integers(5, 80))
def test_every_step_of_every_life_can_be_gone_on_from(random: Random, length: int) -> None:
    """The fork shows its model what the parent's was shown, and has the step to do, or an end."""
    life = Life(random)
    life.live(length)
    facts = life.world.log.facts
    codes: set[str] = set()
    shown = spoken(facts)
    for task in {one.task for one in facts if isinstance(one.fact, f.Accepted)}:
        for step in range(12):
            try:
                log = fork(facts, step, task)
            except Permanent as error:
                codes.add(error.code)
                continue
            told = spoken(log)
            assert told == shown[: len(told)]
            running = state_of(log).running
            assert running is not None
            assert running.task == task
            assert step in {one.step for one in running.pending} or running.verdict or running.hold
    assert codes <= {"unknown_step"}
