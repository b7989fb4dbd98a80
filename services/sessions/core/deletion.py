"""What a session's log says about deleting it: what still runs, what stays on the bill (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from services.sessions.core.delegate import PREFIX
from shared.contracts.base import SessionRef
from shared.contracts.facts import Deleted, Done, Forked, Inferred, Usage, UsageLine
from shared.contracts.log import StoredFact
from shared.contracts.tasks import child_of

_OF_NO_TASK = frozenset({"deleted", "noted"})


def open_tasks(history: Iterable[StoredFact]) -> list[str]:
    """The tasks that were submitted and have not ended, in order."""
    waiting: dict[str, None] = {}
    ended: set[str] = set()
    for stored in history:
        if stored.kind == "task" and stored.task not in ended:
            waiting[stored.task] = None
        elif isinstance(stored.fact, Done):
            ended.add(stored.task)
            waiting.pop(stored.task, None)
    return list(waiting)


@dataclass(frozen=True, slots=True)
class Mark:
    """A deletion in the log: what it covers, and where and when it was recorded."""

    upto: int
    seq: int
    time: float


def newest_deletion(history: Iterable[StoredFact]) -> Mark | None:
    """The deletion that counts."""
    found = [
        Mark(stored.fact.upto, stored.seq, stored.time)
        for stored in history
        if isinstance(stored.fact, Deleted)
    ]
    return max(found, key=lambda mark: mark.upto, default=None)


def history_after(history: Iterable[StoredFact], mark: Mark) -> list[StoredFact]:
    """What a deletion does not cover."""
    return [one for one in history if one.seq > mark.upto and one.kind != "deleted"]


def tasks_since(history: Iterable[StoredFact], upto: int) -> set[str]:
    """The tasks of the session's next life."""
    return {stored.task for stored in history if stored.kind == "task" and stored.seq > upto}


def strays(history: Iterable[StoredFact], upto: int) -> list[StoredFact]:
    """Facts that came after a deletion and belong to what was deleted."""
    known = list(history)
    own = tasks_since(known, upto)
    return [
        stored
        for stored in known
        if stored.seq > upto and stored.kind not in _OF_NO_TASK and stored.task not in own
    ]


def children_of(ref: SessionRef, history: Iterable[StoredFact]) -> list[SessionRef]:
    """The sessions that its calls to other agents became, where they were made."""
    return [
        child_of(ref, fact.task, fact.step + place)[0]
        for fact in (stored.fact for stored in history)
        if isinstance(fact, Inferred)
        for place, call in enumerate(fact.tool_calls, 1)
        if call.name.startswith(PREFIX)
    ]


def usage_of(own: Iterable[StoredFact]) -> tuple[UsageLine, ...]:
    """What the session used, as the ledger counts it: the first result of each model call.

    `own` is without what a fork took over. What a deletion covers is in that one's numbers, also
    where it is not erased yet.
    """
    known = list(own)
    mark = newest_deletion(known)
    counted = 0 if mark is None else mark.upto
    agents: dict[str, str] = {}
    seen: set[tuple[str, int]] = set()
    lines: dict[tuple[str, str, str], UsageLine] = {}
    for stored in known:
        fact = stored.fact
        if stored.kind == "task":
            agents.setdefault(stored.task, stored.rest)
        elif isinstance(fact, Forked):
            agents.setdefault(fact.task, fact.agent)
        elif stored.seq <= counted:
            continue
        elif isinstance(fact, Deleted):
            for line in fact.usage:
                _add(lines, line)
        elif isinstance(fact, Inferred) and (fact.task, fact.step) not in seen:
            seen.add((fact.task, fact.step))
            _add(lines, _line_of(agents.get(fact.task, ""), fact, stored.time))
    return tuple(lines[key] for key in sorted(lines))


def _line_of(agent: str, fact: Inferred, time: float) -> UsageLine:
    day = datetime.fromtimestamp(time, UTC).date().isoformat()
    return UsageLine(
        agent=agent, model=fact.model, day=day, calls=1, usage=fact.usage, price=fact.price
    )


def _add(lines: dict[tuple[str, str, str], UsageLine], more: UsageLine) -> None:
    key = (more.agent, more.model, more.day)
    held = lines.get(key)
    if held is None:
        held = UsageLine(agent=more.agent, model=more.model, day=more.day, calls=0, usage=Usage())
    lines[key] = UsageLine(
        agent=more.agent,
        model=more.model,
        day=more.day,
        calls=held.calls + more.calls,
        usage=held.usage + more.usage,
        price=held.price + more.price,
    )
