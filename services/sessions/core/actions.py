"""What a decision can ask for: actions as values, each with an id that its repetition shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from shared.contracts.agents import AgentSpec
from shared.contracts.base import Message, SessionRef, step_id
from shared.contracts.facts import Fact
from shared.contracts.tasks import TaskSubmitted
from shared.contracts.work import RouteStep, RunTool


@dataclass(frozen=True, slots=True)
class World:
    """What a decision may depend on beside the log. Whatever it yields becomes a fact."""

    now: float
    agents: Mapping[str, tuple[int, AgentSpec]]


@dataclass(frozen=True, slots=True)
class Append:
    """Append a fact; to another session where `ref` says so, and then before anything else."""

    fact: Fact
    trace_id: str
    ref: SessionRef | None = None

    @property
    def id(self) -> str:
        """Names the action; the same decision has the same id."""
        fact = self.fact
        which = getattr(fact, "id", "") or getattr(fact, "attempt", 1)
        hold = getattr(fact, "hold", 0)
        place = f"/{self.ref}" if self.ref is not None else ""
        name = f"{type(fact).__name__}{place}/{getattr(fact, 'task', '')}"
        return f"{name}/{step_of(fact)}/{which}/{hold}"


@dataclass(frozen=True, slots=True)
class Publish:
    """Hand a step to the router or to the tools."""

    work: RouteStep | RunTool
    trace_id: str

    @property
    def id(self) -> str:
        """Names the action."""
        return f"work/{step_id(self.work.task, self.work.step)}/{self.work.attempt}"


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Start a durable timer of a task (epoch seconds of the log's clock).

    `name` is `watch`, or `<kind>-<step>-<attempt>` for what a step or a limit waits for.
    """

    task: str
    at: float
    name: str

    @property
    def id(self) -> str:
        """Names the action; a timer that is moved is another one."""
        return f"timer/{self.task}/{self.name}/{self.at:.3f}"


@dataclass(frozen=True, slots=True)
class Stop:
    """Whatever runs for this task has become useless: tell the engines, drop the timers."""

    task: str

    @property
    def id(self) -> str:
        """Names the action."""
        return f"stop/{self.task}"


@dataclass(frozen=True, slots=True)
class Delegate:
    """Ask another agent: submit a task to a session of its own."""

    ref: SessionRef
    agent: str
    task: str
    body: TaskSubmitted
    step: str
    """The step that waits for it."""
    key: str = ""
    """The id of the API key that pays for it."""
    trace_id: str = ""
    """Of the task that asks; empty: derived."""

    @property
    def id(self) -> str:
        """Names the action."""
        return f"ask/{self.step}"


Action = Append | Publish | SetTimer | Stop | Delegate


def step_of(fact: Message) -> int | Literal[""]:
    """The step number of a fact that has one."""
    step: int | Literal[""] = getattr(fact, "step", "")
    return step
