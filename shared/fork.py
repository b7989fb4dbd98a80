"""Forks: the log of a session that goes on from a step of another one.

Pure. Sequences are those of one stream, so all that a fork took over comes before its own facts:
its log is the parent's up to `forked.at`, cut and changed as `forked` says, then its own. What was
taken over keeps its sequences, times and trace; only the address is the fork's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace as moved
from typing import TypedDict

from msgspec.structs import replace

from shared.contracts import facts as f
from shared.contracts.base import SessionRef, check_token
from shared.contracts.control import ForkSession
from shared.contracts.log import StoredFact
from shared.contracts.tasks import TaskSubmitted, Terms
from shared.errors import Permanent
from shared.subjects import BY_TYPE

_OVER = f.Cancelled | f.Done
"""Facts of the task that speak of its end: it has not ended in the fork."""


class ForkOptions(TypedDict, total=False):
    """What may be different in a fork, and what it is called."""

    name: str
    """The new session; absent: a new name."""
    route: str
    input: str | None
    results: Mapping[int, str] | Mapping[str, str]
    """Step of a tool call -> what it is taken to have returned."""
    by: str
    key: str
    """The id of the API key that pays for it."""


def fork_request(name: str, at: int | str, options: ForkOptions) -> ForkSession:
    """The request for a fork at `<task>.<step>`, or at a step of the session's last task.

    Raises:
        Permanent: `invalid_name` (`session`), `invalid_step` (`at`).
    """
    task, _, step = str(at).rpartition(".")
    if not (step.isascii() and step.isdigit() and len(step) < 10):
        raise Permanent(
            "invalid_step", f"at must be <step> or <task>.<step>, not {str(at)[:80]!r}", field="at"
        )
    if task:
        check_token(task, "at")
    return ForkSession(
        session=check_token(name, "session"),
        step=int(step),
        task=task,
        route=options.get("route", ""),
        input=options.get("input"),
        results={str(one): text for one, text in options.get("results", {}).items()},
        by=options.get("by", ""),
        key=options.get("key", ""),
    )


def origin_of(own: Sequence[StoredFact], before: int | None = None) -> StoredFact | None:
    """The `forked` fact of a session, if it is one: it counts as its first fact only.

    A parent's is older than its child's (`before`); whatever says otherwise is not followed, so
    that no circle of parents can be made.
    """
    first = own[0] if own else None
    if first is None or not isinstance(first.fact, f.Forked):
        return None
    return first if before is None or first.seq < before else None


def parent_of(origin: StoredFact) -> SessionRef:
    """The session that a fork goes on from."""
    parent = origin.fact.parent if isinstance(origin.fact, f.Forked) else ""
    return SessionRef(origin.ref.tenant, parent)


def inherited(parent: Iterable[StoredFact], origin: StoredFact) -> list[StoredFact]:
    """What a fork takes over from the facts of its parent, as facts of its own.

    Of the other tasks only those that had ended when the forked one started: the conversation
    that it saw. A task that waited meanwhile would otherwise run a second time.
    """
    forked = origin.fact
    assert isinstance(forked, f.Forked)  # noqa: S101  # `origin_of` answers with no other
    known = [fact for fact in parent if fact.seq <= forked.at and fact.seq < origin.seq]
    ended = _ended_before(known, forked.task)
    return [
        _changed(moved(stored, ref=origin.ref), forked)
        for stored in known
        if (_stays(stored.fact, forked) if stored.task == forked.task else stored.task in ended)
        or (isinstance(stored.fact, f.Noted) and stored.seq < _start(known, forked.task))
    ]


def _start(known: Iterable[StoredFact], task: str) -> int:
    """Where a task was accepted: what was set down before it saw."""
    found = (one.seq for one in known if isinstance(one.fact, f.Accepted) and one.task == task)
    return next(found, 0)


def _ended_before(known: Iterable[StoredFact], task: str) -> set[str]:
    """The tasks that had ended when this one was accepted."""
    ended: set[str] = set()
    for stored in known:
        if isinstance(stored.fact, f.Accepted) and stored.task == task:
            break
        if isinstance(stored.fact, f.Done):
            ended.add(stored.task)
    return ended


def _stays(fact: object, forked: f.Forked) -> bool:
    """Whether a fact of the forked task, up to the cut, is still true."""
    if isinstance(fact, f.Forked):
        return True
    if isinstance(fact, _OVER) or (isinstance(fact, f.TimerFired) and fact.step is None):
        return False
    step = getattr(fact, "step", None)
    if step is None or step < forked.step or str(step) in forked.results:
        return True
    # a limit that was raised before the step stays raised
    return bool(getattr(fact, "hold", 0)) and step == forked.step


def _changed(stored: StoredFact, forked: f.Forked) -> StoredFact:
    """A fact with the changes of the fork in it."""
    if stored.task != forked.task:
        return stored
    fact = stored.fact
    match fact:
        case TaskSubmitted() if forked.input is not None:
            return moved(stored, fact=replace(fact, input=forked.input))
        case f.Accepted() if forked.route:
            agent = replace(fact.agent, route=forked.route)
            return moved(stored, fact=replace(fact, agent=agent))
        case f.Approved(terms=Terms() as terms) if forked.route:
            fact = replace(fact, terms=replace(terms, route=forked.route))
            stored = moved(stored, fact=fact)
    text = forked.results.get(str(getattr(fact, "step", "")))
    if text is None or not is_tool_result(fact):
        return stored
    new = _with_result(fact, text)
    return moved(stored, fact=new, kind=BY_TYPE[type(new)].token)


def is_tool_result(fact: object) -> bool:
    """Whether a fact gives a tool call what the model reads, from the tool or from a person."""
    match fact:
        case f.ToolDone() | f.ToolFailed(retry=False):
            return True
        case f.Approved(hold=0):
            return fact.result is not None
        case f.Rejected(hold=0) | f.TimerFired(timer="approval", hold=0):
            return True
    return False


def _with_result(fact: object, text: str) -> f.ToolDone | f.Approved:
    match fact:
        case f.ToolDone() | f.ToolFailed():
            return f.ToolDone(
                task=fact.task,
                step=fact.step,
                call=fact.call,
                name=fact.name,
                result=text,
                duration_ms=fact.duration_ms,
                attempt=fact.attempt,
            )
        case f.Approved():
            return replace(fact, result=text)
        case f.Rejected() | f.TimerFired():
            step = fact.step or 0
            return f.Approved(task=fact.task, step=step, result=text, attempt=fact.attempt)
    raise AssertionError(fact)
