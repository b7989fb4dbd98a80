"""Where a session can be forked: judged on its log, answered with the fact that records it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from services.sessions.core.evolve import evolve
from services.sessions.core.state import Running, SessionState
from shared.contracts.base import SessionRef, check_token, step_id
from shared.contracts.control import ForkSession
from shared.contracts.facts import Accepted, Approved, Forked, Inferred
from shared.contracts.log import StoredFact
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Permanent
from shared.fork import is_tool_result


@dataclass(slots=True)
class _Steps:
    """The steps of a task, as the fold of its log knows them."""

    known: set[int] = field(default_factory=set)
    """Every step that was due at some time."""
    ends: dict[int, int] = field(default_factory=dict)
    """Step -> the sequence of its result."""
    asked: dict[int, int] = field(default_factory=dict)
    """Step of a tool call -> step of the answer that asked for it."""
    raised: list[tuple[int, int]] = field(default_factory=list)
    """Step and sequence of each permission to go beyond a limit."""
    answer: int = 0
    """The step of the last answer."""

    def learn(self, before: Running, after: Running, stored: StoredFact) -> None:
        """What a fact has made of the task."""
        fact, due = stored.fact, {one.step: one for one in after.pending}
        step = getattr(fact, "step", None)
        was_due = any(one.step == step for one in before.pending)
        if step is not None and was_due and step not in due and _ends(fact):
            self.ends[step] = stored.seq
            if isinstance(fact, Inferred):
                self.answer = step
        if before.hold is not None and after.hold is None and isinstance(fact, Approved):
            self.raised.append((fact.step, stored.seq))
        self.note(after)

    def note(self, running: Running) -> None:
        """What is due."""
        for one in running.pending:
            self.known.add(one.step)
            if one.call is not None:
                self.asked.setdefault(one.step, self.answer)


def forked(parent: str, history: Sequence[StoredFact], order: ForkSession) -> Forked:
    """The fact that makes a fork.

    Raises:
        Permanent: `unknown_session`, `unknown_task`, `unknown_step`, `invalid_name`,
            `invalid_arguments`.
    """
    if not history:
        raise Permanent("unknown_session", f"there is no session {parent!r}", field="session")
    if check_token(order.session, "session").startswith("_"):
        raise Permanent("invalid_name", "names with a leading _ are reserved", field="session")
    accepted = _accepted(parent, history, order.task)
    task = accepted.task
    if order.input is not None:
        _check_input(history, task)
    return Forked(
        parent=parent,
        at=_cut(history, order, task),
        task=task,
        step=order.step,
        agent=accepted.agent.name,
        route=order.route,
        input=order.input,
        results=order.results,
        by=order.by,
        key=order.key,
    )


def made(child: SessionRef, first: StoredFact | None, fact: Forked) -> int:
    """The sequence of the fork, where it is what the session begins with: asking twice is fine.

    Raises:
        Permanent: `session_exists`.
    """
    there = None if first is None else first.fact
    if first is None or not isinstance(there, Forked) or replace(there, at=fact.at) != fact:
        detail = f"session {child.session} has a log already; name another one, or none"
        raise Permanent("session_exists", detail, field="session")
    return first.seq


def _check_input(history: Iterable[StoredFact], task: str) -> None:
    """A task that goes on with another one has no input of its own."""
    for stored in history:
        if stored.task != task or not isinstance(stored.fact, TaskSubmitted):
            continue
        if before := stored.fact.retry_of:
            detail = f"task {task} goes on with {before}: fork that one to change its input"
            raise Permanent("invalid_arguments", detail, field="input")


def _accepted(parent: str, history: Iterable[StoredFact], task: str) -> Accepted:
    """The start of a task, or of the last one that started."""
    started = {one.task: one.fact for one in history if isinstance(one.fact, Accepted)}
    found = started.get(task or next(reversed(started), ""))
    if found is None:
        what = f"task {task!r}" if task else "any task"
        detail = f"session {parent} has not started {what}; it started: {', '.join(started)}"
        raise Permanent("unknown_task", detail.removesuffix("; it started: "), field="task")
    return found


def _cut(history: Sequence[StoredFact], order: ForkSession, task: str) -> int:
    """The sequence up to which the parent's log counts: that of the last result that is kept."""
    steps = _steps(history[0].ref, history, task)
    if order.step not in steps.known:
        there = ", ".join(step_id(task, one) for one in sorted(steps.known))
        detail = f"there is no step {step_id(task, order.step)} to fork at; there are: {there}"
        raise Permanent("unknown_step", detail, field="step")
    kept = {step for step in steps.ends if step < order.step}
    editable = {str(step): step for step, by in steps.asked.items() if by < order.step}
    for name in order.results:
        step = editable.get(name)
        if step is None or step not in steps.ends:
            there = ", ".join(one for one, step in editable.items() if step in steps.ends)
            detail = f"step {name[:20]!r} has no tool result before the fork; there are: {there}"
            raise Permanent("unknown_step", detail.removesuffix("; there are: "), field="results")
        kept.add(step)
    start = next(s.seq for s in history if s.task == task and isinstance(s.fact, Accepted))
    raised = [seq for step, seq in steps.raised if step <= order.step]
    return max([start, *raised, *(steps.ends[step] for step in kept)])


def _ends(fact: object) -> bool:
    return isinstance(fact, Inferred) or is_tool_result(fact)


def _steps(ref: SessionRef, history: Iterable[StoredFact], task: str) -> _Steps:
    steps, state = _Steps(), SessionState(ref=ref)
    for stored in history:
        before = state.running
        state = evolve(state, stored)
        if state.running is None or state.running.task != task:
            continue
        if before is None:
            steps.note(state.running)
        else:
            steps.learn(before, state.running, stored)
    return steps
