"""Recorded sessions: what their logs show is what the present code decides.

A loop may have been behind the log when it decided, so a decision has to follow from some
beginning of the log before the fact that came of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from services.sessions.core.decide import Action, Append, Publish, World, decide
from services.sessions.core.evolve import evolve
from services.sessions.core.state import SessionState
from shared.contracts import facts as f
from shared.contracts.agents import AgentSpec
from shared.contracts.log import StoredFact
from shared.contracts.tasks import TaskSubmitted
from shared.contracts.work import RouteStep, RunTool
from tests.contract.history_file import line_of, read_history, write_history

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.jsonl"))
Agents = dict[str, tuple[int, AgentSpec]]
each_history = pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)


class Replay:
    """A recorded log and the state after each of its facts."""

    def __init__(self, facts: list[StoredFact]) -> None:
        self.facts = facts
        self.states = [SessionState(ref=facts[0].ref)]
        for stored in facts:
            self.states.append(evolve(self.states[-1], stored))
        asked = {one.rest for one in facts if one.kind == "task"}
        self.agents: Agents = {name: (1, AgentSpec(name=name)) for name in asked}

    def decided(
        self,
        n: int,
        wanted: Callable[[Action], bool],
        now: float = 0.0,
        agents: Agents | None = None,
    ) -> bool:
        """Whether an action like this was due before the n-th fact."""
        world = World(now=now, agents=self.agents if agents is None else agents)
        return any(
            wanted(action) for state in self.states[n::-1] for action in decide(state, world)
        )

    def asked(self, task: str) -> str:
        """The agent that a task asked for."""
        return next((one.rest for one in self.facts if (one.task, one.kind) == (task, "task")), "")

    def explains(self, n: int) -> bool:
        """Whether the n-th fact is one that the loop would append, or the result of such work."""
        match self.facts[n].fact:
            case f.Accepted() as fact:
                return self._accepted(n, fact)
            case f.Done() as fact:
                return self._done(n, fact)
            case f.Inferred() | f.InferFailed() as fact:
                return self.decided(n, lambda action: asks_model(action, fact.task, fact.step))
            case f.ToolDone() | f.ToolFailed() as fact:
                return self.decided(n, lambda action: asks_tool(action, fact))
            case _:
                return True  # it came from outside

    def _accepted(self, n: int, fact: f.Accepted) -> bool:
        agents = self.agents | {self.asked(fact.task): (fact.revision, fact.agent)}
        now = fact.deadline - fact.limits.deadline_s

        def same(action: Action) -> bool:
            return (
                isinstance(action, Append)
                and isinstance(action.fact, f.Accepted)
                and abs(action.fact.deadline - fact.deadline) < 1e-3
                and same_but_deadline(action.fact, fact)
            )

        return self.decided(n, same, now, agents)

    def _done(self, n: int, fact: f.Done) -> bool:
        agents = dict(self.agents)
        if fact.error is not None and fact.error.code == "unknown_agent":
            agents.pop(self.asked(fact.task), None)

        def same(action: Action) -> bool:
            return isinstance(action, Append) and ending(action.fact) == ending(fact)

        return self.decided(n, same, agents=agents)


def same_but_deadline(one: f.Accepted, other: f.Accepted) -> bool:
    names = set(f.Accepted.__struct_fields__) - {"deadline"}
    return all(getattr(one, name) == getattr(other, name) for name in names)


def ending(fact: object) -> object:
    """What must not change about an end; the words of an error may."""
    if not isinstance(fact, f.Done):
        return None
    code = fact.error.code if fact.error else ""
    return fact.task, fact.status, fact.output, fact.totals, code


def asks_model(action: Action, task: str, step: int) -> bool:
    if not isinstance(action, Publish) or not isinstance(action.work, RouteStep):
        return False
    return (action.work.task, action.work.step) == (task, step)


def asks_tool(action: Action, fact: f.ToolDone | f.ToolFailed) -> bool:
    found: object = getattr(action, "work", getattr(action, "fact", None))
    if not isinstance(found, RunTool | f.ToolFailed):
        return False
    return (found.task, found.step, found.call, found.name) == (
        fact.task,
        fact.step,
        fact.call,
        fact.name,
    )


def test_there_are_histories() -> None:
    assert HISTORIES


@each_history
def test_the_log_shows_what_is_decided_now(path: Path) -> None:
    replay = Replay(read_history(path))
    unexplained = [
        (stored.seq, stored.kind, stored.task)
        for n, stored in enumerate(replay.facts)
        if not replay.explains(n)
    ]
    assert not unexplained


@each_history
def test_every_task_has_its_end(path: Path) -> None:
    replay = Replay(read_history(path))
    assert replay.states[-1].idle
    assert replay.states[-1].ended == {one.task for one in replay.facts if one.kind == "task"}


@each_history
def test_the_file_is_read_as_it_was_written(path: Path, tmp_path: Path) -> None:
    facts = read_history(path)
    write_history(tmp_path / "again.jsonl", facts)
    assert (tmp_path / "again.jsonl").read_bytes() == path.read_bytes()


def test_a_log_that_shows_something_else_is_noticed() -> None:
    """The check itself can fail: another sum, another order of steps, another end."""
    facts = read_history(next(path for path in HISTORIES if path.stem == "two-tools-by-hand"))
    whole = Replay(facts)
    assert all(whole.explains(n) for n in range(len(facts)))
    for n, stored in enumerate(facts):
        if isinstance(stored.fact, TaskSubmitted):
            continue
        without = Replay([*facts[: n - 1], *facts[n:]])
        assert not all(without.explains(k) for k in range(len(without.facts))), line_of(stored)
