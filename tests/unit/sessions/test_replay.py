"""The check itself: it accepts what loops really do, and notices what they would not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sessions.adapters.replays import answer
from services.sessions.core.decide import Append, Delegate, Publish, SetTimer
from services.sessions.core.replay import Replay, leads_to
from shared.contracts import facts as f
from shared.contracts.agents import Sampling
from shared.contracts.base import SessionRef
from shared.contracts.log import StoredFact
from shared.contracts.replay import ReplayQuery
from shared.contracts.tasks import TaskSubmitted
from shared.contracts.work import RouteStep, RunTool
from shared.errors import Failure, Permanent
from tests.fakes.session_world import REF
from tests.unit.sessions.simulation import STRAY, Life

randoms = st.randoms(use_true_random=True, note_method_calls=False)


def life(random: Random, length: int = 60) -> list[StoredFact]:
    lived = Life(random)
    lived.live(length)
    lived.finish(workers=True)
    return lived.world.log.facts


@dataclass
class Log:
    """Port `FactLog` over a list."""

    facts: Sequence[StoredFact] = field(default_factory=list)

    async def read(self, ref: SessionRef, after: int = 0) -> Sequence[StoredFact]:
        return [stored for stored in self.facts if stored.seq > after]


@given(randoms, st.integers(5, 90))
def test_whatever_the_loops_of_a_session_do_follows_from_its_log(
    random: Random, length: int
) -> None:
    facts = life(random, length)
    if not facts:
        return
    replay = Replay(facts)
    for n, stored in enumerate(facts):
        if getattr(stored.fact, "step", None) == STRAY:
            assert not replay.explains(n)
        else:
            assert replay.explains(n), (stored.seq, stored.kind, stored.fact)


@given(randoms)
def test_a_result_that_another_step_would_have_is_noticed(random: Random) -> None:
    facts = life(random)
    results = [n for n, one in enumerate(facts) if isinstance(one.fact, f.Inferred | f.ToolDone)]
    if not results:
        return
    n = random.choice(results)
    wrong = f.Inferred(task=facts[n].task, step=40, content="?")
    facts[n] = StoredFact(facts[n].seq, 0.0, REF, "inferred", "", facts[n].task, wrong)
    assert not Replay(facts).explains(n)


# -- what leads to what ---------------------------------------------------------------------------

ROUTE = RouteStep(ref=REF, task="t", step=0, route="default", seq=1, sampling=Sampling(), attempt=2)
RUN = RunTool(ref=REF, task="t", step=1, call="c", name="add", arguments="{}", attempt=2)
BUSY = Failure(code="busy", family="transient")
HERE = {"task": "t", "step": 1, "call": "c", "name": "add"}


@pytest.mark.parametrize(
    ("fact", "yes"),
    [
        (f.Inferred(task="t", step=0, attempt=2), True),
        (f.Inferred(task="t", step=0, attempt=3), True),  # given to another worker meanwhile
        (f.Inferred(task="t", step=0, attempt=1), False),
        (f.InferFailed(task="t", step=0, error=BUSY, attempt=2), True),
        (f.Inferred(task="t", step=1, attempt=2), False),
        (f.ToolDone(**HERE, result="1", attempt=2), True),
        (f.ToolFailed(**HERE, error=BUSY, attempt=2, retry=True), True),
        (f.ToolStarted(**HERE, executor="x", attempt=2), True),
        (f.ToolStarted(**HERE, executor="x", attempt=1), False),
        (f.ToolDone(task="t", step=1, call="c", name="sub", result="1", attempt=2), False),
        (f.Parked(task="t", step=1, reason="unknown_outcome", attempt=2), True),
        (f.Parked(task="t", step=1, reason="approval", attempt=2), False),
    ],
)
def test_results_come_of_the_work_that_was_handed_out(fact: f.Fact, yes: bool) -> None:
    asked = (Publish(ROUTE, ""), Publish(RUN, ""))
    assert any(leads_to(action, fact) for action in asked) is yes


def test_what_is_appended_must_be_what_is_decided_but_for_words() -> None:
    parked = f.Parked(task="t", step=1, reason="approval", detail="delete_all may not run")
    assert leads_to(Append(parked, ""), f.Parked(task="t", step=1, reason="approval", detail="?"))
    assert not leads_to(Append(parked, ""), f.Parked(task="t", step=2, reason="approval"))
    failed = f.ToolFailed(**HERE, error=BUSY)
    other = f.ToolFailed(**HERE, error=Failure(code="other"))
    assert not leads_to(Append(failed, ""), other)
    assert not leads_to(Append(failed, ""), f.ToolDone(**HERE, result=""))


def test_a_timer_fires_for_whom_it_was_set() -> None:
    timer = SetTimer("t", 9.0, "watch")
    assert leads_to(timer, f.TimerFired(task="t", timer="deadline"))
    assert leads_to(timer, f.TimerFired(task="t", timer="watch"))
    assert not leads_to(timer, f.TimerFired(task="t", timer="retry", step=1, attempt=2))
    retry, limit = SetTimer("t", 9.0, "retry-1-2"), SetTimer("t", 9.0, "limit-3-1")
    assert leads_to(retry, f.TimerFired(task="t", timer="retry", step=1, attempt=2))
    assert not leads_to(retry, f.TimerFired(task="t", timer="retry", step=1, attempt=3))
    assert leads_to(limit, f.TimerFired(task="t", timer="approval", step=3, hold=1))
    assert not leads_to(timer, f.TimerFired(task="u", timer="deadline"))
    assert not leads_to(Publish(RUN, ""), f.TimerFired(task="t", timer="deadline"))


def test_an_agent_that_was_asked_answers_its_call() -> None:
    asked = Delegate(SessionRef("acme", "sub-1"), "other", "sub-1", TaskSubmitted(input="?"), "t.1")
    assert leads_to(asked, f.ToolDone(**HERE, result="1"))
    assert leads_to(asked, f.ToolFailed(**HERE, error=BUSY))
    assert not leads_to(asked, f.ToolDone(task="t", step=2, call="c", name="add", result="1"))
    told = Append(f.ToolDone(**HERE, result="1"), "", SessionRef("acme", "s0"))
    assert not leads_to(told, f.ToolDone(**HERE, result="1"))  # that is for another session


# -- pages ----------------------------------------------------------------------------------------


def log() -> Log:
    return Log(life(Random(7), 90))  # noqa: S311  # no secret


async def test_the_pages_are_the_whole_log() -> None:
    whole = log()
    seen, after = [], 0
    while after is not None:
        page = await answer(whole, REF, ReplayQuery(after=after, limit=7))
        assert page.facts == len(page.rows) <= 7
        seen += page.rows
        after = page.next
    assert [row.seq for row in seen] == [stored.seq for stored in whole.facts]
    assert {row.verdict for row in seen} >= {"explained", "outside"}
    assert any(row.decided for row in seen)
    assert all(row.by < row.seq for row in seen)


async def test_differences_alone_say_what_was_due_instead() -> None:
    whole = log()
    accepted = next(n for n, one in enumerate(whole.facts) if one.kind == "accepted")
    whole.facts = [*whole.facts[:accepted], *whole.facts[accepted + 1 :]]
    page = await answer(whole, REF, ReplayQuery(limit=5000, differences=True))
    assert page.next is None
    assert page.facts == len(whole.facts)
    assert page.rows[0].verdict == "unexplained"
    assert page.rows[0].due


async def test_one_place_shows_the_state_and_all_that_is_due_there() -> None:
    whole = log()
    stored = next(one for one in whole.facts if one.kind == "accepted")
    page = await answer(whole, REF, ReplayQuery(at=stored.seq))
    assert page.rows[0].seq == stored.seq
    assert page.state is not None
    assert page.state["seq"] == stored.seq
    assert set(page.rows[0].decided) <= set(page.rows[0].due)


async def test_what_is_not_there_is_said() -> None:
    with pytest.raises(Permanent, match="unknown_session"):
        await answer(Log(), REF, ReplayQuery())
    later = [one for one in log().facts if one.seq > 5]
    with pytest.raises(Permanent, match="invalid_sequence") as refused:
        await answer(Log(later), REF, ReplayQuery(at=2))
    assert refused.value.field == "at"
