"""Projections of the log that the checks share. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from shared.contracts.base import SessionRef
from shared.contracts.facts import Approved, Inferred, Rejected, ToolDone, ToolFailed
from shared.contracts.log import StoredFact
from tests.chaos.records import Place

TaskKey = tuple[SessionRef, str]


def by_task(facts: Iterable[StoredFact]) -> dict[TaskKey, list[StoredFact]]:
    """The facts of each task, in order."""
    found: dict[TaskKey, list[StoredFact]] = defaultdict(list)
    for stored in facts:
        found[stored.ref, stored.task].append(stored)
    return found


def results(facts: Iterable[StoredFact]) -> dict[Place, StoredFact]:
    """The result of each step: the first one wins."""
    found: dict[Place, StoredFact] = {}
    for stored in facts:
        fact = stored.fact
        if is_result(stored) and isinstance(fact, Inferred | ToolDone | ToolFailed):
            found.setdefault(Place(stored.ref, stored.task, fact.step), stored)
    return found


def is_result(stored: StoredFact) -> bool:
    """Whether a fact is what a step came to; an error that is tried again is none."""
    fact = stored.fact
    if isinstance(fact, ToolFailed):
        return not getattr(fact, "retry", False)
    return isinstance(fact, Inferred | ToolDone)


def closed(facts: Sequence[StoredFact]) -> dict[Place, StoredFact]:
    """What closed each step: its result, or a person's word that stands for one."""
    found = results(facts)
    for stored in facts:
        fact = stored.fact
        answered = isinstance(fact, Approved) and fact.result is not None
        if isinstance(fact, Approved | Rejected) and (answered or isinstance(fact, Rejected)):
            found.setdefault(Place(stored.ref, stored.task, fact.step), stored)
    return found


def is_balanced(messages: Sequence[dict[str, object]]) -> bool:
    """Whether each call has one result, right behind the answer that asked for it."""
    wanted: list[object] = []
    for message in messages:
        if message["role"] == "tool":
            if not wanted or message["tool_call_id"] != wanted.pop(0):
                return False
            continue
        if wanted:
            return False
        calls = message.get("tool_calls") or ()
        wanted = [call["id"] for call in calls]  # type: ignore[attr-defined]  # OpenAI's shape
    return not wanted
