"""A log that grows, and what is to be done at its end: for the tests of the decider."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.sessions.core.decide import Action, Append, Publish, SetTimer, World, decide
from services.sessions.core.state import SessionState
from shared.contracts import facts as f
from shared.contracts.agents import AgentSpec, Limits, RetryPolicy, Sampling
from shared.contracts.base import SessionRef, encode
from shared.contracts.tasks import TaskSubmitted
from shared.contracts.work import RouteStep, RunTool
from shared.errors import Failure
from tests.fakes.session_world import REF, MemoryLog, fold

AGENT = AgentSpec(
    name="helper",
    route="deep",
    tools=("add", "look"),
    limits=Limits(max_steps=6, max_tokens=100, deadline_s=60.0),
    sampling=Sampling(temperature=0.5),
    collection="handbook",
    retry=RetryPolicy(tries=3, tool_tries=3, base_s=1.0, max_s=30.0),
)
ADD = f.ToolCall(id="c-add", name="add", arguments='{"a": 1}')
LOOK = f.ToolCall(id="c-look", name="look", arguments="{}")
TRACE = "0af7651916cd43dd8448eb211c80319c"


@dataclass
class Case:
    """A log that grows, and what is to be done at its end."""

    log: MemoryLog = field(default_factory=MemoryLog)
    agents: dict[str, tuple[int, AgentSpec]] = field(default_factory=lambda: {"helper": (4, AGENT)})

    place: SessionRef = REF

    @property
    def state(self) -> SessionState:
        return fold(self.log.facts, SessionState(ref=self.place))

    @property
    def timers(self) -> dict[str, float]:
        """Name -> seconds from now."""
        found = (action for action in self.actions if isinstance(action, SetTimer))
        return {one.name: round(one.at - self.log.now, 3) for one in found}

    @property
    def actions(self) -> list[Action]:
        return decide(self.state, World(now=self.log.now, agents=self.agents))

    @property
    def work(self) -> list[RouteStep | RunTool]:
        return [action.work for action in self.actions if isinstance(action, Publish)]

    @property
    def facts(self) -> list[object]:
        return [action.fact for action in self.actions if isinstance(action, Append)]

    def submit(self, task: str = "t1", agent: str = "helper", body: bytes = b"") -> Case:
        self.log.submit(agent, body or encode(TaskSubmitted(input="hi")), task)
        return self

    def add(self, *facts: f.Fact) -> Case:
        for fact in facts:
            self.log.append(fact, again=True)
        return self

    def wait(self, seconds: float) -> Case:
        """Time passes."""
        self.log.now += seconds
        return self

    def appended(self) -> Case:
        """Append the facts that are decided."""
        return self.add(*self.facts)

    def running(self, task: str = "t1") -> Case:
        return self.submit(task).appended()


def said(step: int, *calls: f.ToolCall, tokens: int = 10, task: str = "t1") -> f.Inferred:
    usage = f.Usage(input=tokens, cached=2, output=5)
    content = f"step {step}"
    return f.Inferred(task=task, step=step, content=content, tool_calls=calls, usage=usage, price=7)


def ran(step: int, call: f.ToolCall, task: str = "t1") -> f.ToolDone:
    return f.ToolDone(task=task, step=step, call=call.id, name=call.name, result="ok")


def broke(step: int, call: f.ToolCall, task: str = "t1") -> f.ToolFailed:
    error = Failure(code="tool_failed")
    return f.ToolFailed(task=task, step=step, call=call.id, name=call.name, error=error)


def ended(case: Case) -> tuple[str, str]:
    """Status and error code of the end that is due."""
    (done,) = case.facts
    assert isinstance(done, f.Done)
    return done.status, done.error.code if done.error else ""
