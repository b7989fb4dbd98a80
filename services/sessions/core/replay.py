"""Replay: the log of a session, decided once more by the present code.

A loop may have been behind the log when it decided, so a fact is explained when its decision
follows from some beginning of the log before it. It knows no rule of the decider but its actions:
a fact that was appended must be one that it appends, a result one that it asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.sessions.core.decide import Action, Append, Delegate, Publish, SetTimer, World, decide
from services.sessions.core.evolve import evolve
from services.sessions.core.state import SessionState
from shared.contracts import facts as f
from shared.contracts.agents import AgentSpec
from shared.contracts.base import Message, step_id
from shared.contracts.log import Malformed, StoredFact
from shared.contracts.replay import ReplayRow, Verdict
from shared.contracts.tasks import TaskSubmitted
from shared.contracts.work import RouteStep, RunTool

Agents = dict[str, tuple[int, AgentSpec]]
_WORDS = frozenset({"detail", "note", "duration_ms", "deadline", "error"})
"""Fields that may change from release to release, or measure something."""
_OUTSIDE = (TaskSubmitted, Malformed, f.Completed, f.Refused, f.Forked, f.Noted)
_MAYBE_OUTSIDE = (f.Cancelled, f.Approved, f.Rejected, f.Steered)
_SAME_INSTANT = 1e-3
_JUDGED_BY_AGENT = frozenset({"duplicate_tool", "unknown_tool"})


class Replay:
    """A log, and the state after each of its facts as far as it has been folded."""

    def __init__(self, facts: Sequence[StoredFact]) -> None:
        self.facts = facts
        self._states = [SessionState(ref=facts[0].ref)]
        self._agents: Agents = {}
        for stored in facts:
            if stored.kind == "task":
                self._agents.setdefault(stored.rest, (1, AgentSpec(name=stored.rest)))
            elif isinstance(stored.fact, f.Accepted):
                accepted = stored.fact
                self._agents[accepted.agent.name] = (accepted.revision, accepted.agent)
        self._first: dict[str, int] = {}
        for n, stored in enumerate(facts):
            self._first.setdefault(stored.task, n)

    def state(self, n: int) -> SessionState:
        """The state that the first `n` facts make."""
        while len(self._states) <= n:
            stored = self.facts[len(self._states) - 1]
            self._states.append(evolve(self._states[-1], stored))
        return self._states[n]

    def due(self, n: int) -> tuple[str, ...]:
        """The names of all that is to be done after the first `n` facts."""
        return tuple(action.id for action in self._decide(n, self._time(n), self._agents))

    def row(self, n: int) -> ReplayRow:
        """The n-th fact beside the decisions."""
        stored = self.facts[n]
        before, after = self.due(n), self.due(n + 1)
        verdict, by = self._verdict(n)
        return ReplayRow(
            seq=stored.seq,
            time=stored.time,
            kind=stored.kind,
            task=stored.task,
            step=getattr(stored.fact, "step", None),
            verdict=verdict,
            by=by,
            decided=tuple(name for name in after if name not in before),
            due=before if verdict == "unexplained" else (),
        )

    def explains(self, n: int) -> bool:
        """Whether the n-th fact follows from the log before it, or came from outside."""
        return self._verdict(n)[0] != "unexplained"

    def _verdict(self, n: int) -> tuple[Verdict, int]:
        fact = self.facts[n].fact
        if isinstance(fact, _OUTSIDE):
            return "outside", 0
        now, agents = self._world_of(n, fact)
        # nothing is decided for a task before its first fact
        for known in range(n, self._first[self.facts[n].task] - 1, -1):
            if any(leads_to(action, fact) for action in self._decide(known, now, agents)):
                return "explained", self._seq(known)
        return ("outside" if isinstance(fact, _MAYBE_OUTSIDE) else "unexplained"), 0

    def _world_of(self, n: int, fact: f.Fact | Malformed) -> tuple[float, Agents]:
        """What a decision depended on beside the log; the fact that it became tells."""
        stored = self.facts[n]
        if isinstance(fact, f.Accepted):
            agents = self._agents | {self._asked(stored.task): (fact.revision, fact.agent)}
            return fact.deadline - fact.limits.deadline_s, agents
        if isinstance(fact, f.TimerFired):
            return 0.0, self._agents  # while it was set, its moment had not come
        if isinstance(fact, f.Done) and fact.error and fact.error.code == "unknown_agent":
            asked = self._asked(stored.task)
            return stored.time, {name: one for name, one in self._agents.items() if name != asked}
        if isinstance(fact, f.Done) and fact.error and fact.error.code in _JUDGED_BY_AGENT:
            agent = self._refused_by(stored.task, fact.error.code)
            return stored.time, self._agents | {agent.name: (0, agent)}
        return stored.time, self._agents

    def _refused_by(self, task: str, code: str) -> AgentSpec:
        """An agent that refuses a task so: it has the tools that the task brings along, or none."""
        given = next(
            (one.fact for one in self.facts if (one.task, one.kind) == (task, "task")), None
        )
        own = given.tools if isinstance(given, TaskSubmitted) and code == "duplicate_tool" else ()
        return AgentSpec(name=self._asked(task), tools=tuple(tool.name for tool in own))

    def _asked(self, task: str) -> str:
        """The agent that a task asked for."""
        return next((one.rest for one in self.facts if (one.task, one.kind) == (task, "task")), "")

    def _decide(self, n: int, now: float, agents: Agents) -> list[Action]:
        return decide(self.state(n), World(now=now, agents=agents))

    def _seq(self, n: int) -> int:
        return self.facts[n - 1].seq if n else 0

    def _time(self, n: int) -> float:
        return self.facts[n - 1].time if n else 0.0


def leads_to(action: Action, fact: f.Fact | Malformed) -> bool:
    """Whether a fact is what comes of an action."""
    if isinstance(action, Append):
        return action.ref is None and _same(action.fact, fact)
    if isinstance(action, Delegate):
        if not isinstance(fact, f.ToolDone | f.ToolFailed):
            return False
        return action.step == step_id(fact.task, fact.step)
    match fact:
        case f.Inferred() | f.InferFailed():
            return _asks(action, RouteStep, fact)
        case f.ToolDone() | f.ToolFailed() | f.ToolStarted():
            return _asks(action, RunTool, fact, "call", "name")
        case f.Parked(reason="unknown_outcome"):  # the tools say so: only they know
            return _asks(action, RunTool, fact)
        case f.TimerFired():
            return isinstance(action, SetTimer) and _times(action, fact)
        case _:
            return False


def _same(one: Message, other: object) -> bool:
    """Equal but for words and measures; of errors the code counts."""
    if type(one) is not type(other):
        return False
    names = set(one.__struct_fields__) - _WORDS
    codes = (getattr(getattr(fact, "error", None), "code", "") for fact in (one, other))
    near = getattr(one, "deadline", 0.0) - getattr(other, "deadline", 0.0)
    return (
        all(getattr(one, name) == getattr(other, name) for name in names)
        and len(set(codes)) == 1
        and abs(near) < _SAME_INSTANT
    )


def _asks(action: Action, kind: type[RouteStep | RunTool], fact: Message, *also: str) -> bool:
    """Whether an action hands out the step of a fact, at this or an earlier attempt."""
    work = action.work if isinstance(action, Publish) else None
    if not isinstance(work, kind) or work.attempt > getattr(fact, "attempt", 1):
        return False
    return all(getattr(work, name) == getattr(fact, name) for name in ("task", "step", *also))


def _times(action: SetTimer, fact: f.TimerFired) -> bool:
    """Whether a timer is that of the fact; a deadline is a watch that came too late."""
    if action.task != fact.task:
        return False
    if fact.step is None:
        return action.name == "watch"
    kind = "limit" if fact.hold else fact.timer
    return action.name == f"{kind}-{fact.step}-{fact.hold or fact.attempt}"
