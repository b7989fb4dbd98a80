"""What a trial asks, and how it judges what the log says of it afterwards. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from infra.demo.cases import mentions
from shared.contracts.facts import Done, Inferred, ToolDone, ToolFailed
from shared.contracts.log import StoredFact

AGENT = "assistant"


@dataclass(frozen=True, slots=True)
class Question:
    """One task: its session, its own name, and a text that the right answer contains."""

    session: str
    task: str
    text: str
    answer: str


def products(run: str, first: int, count: int, sessions: int) -> tuple[Question, ...]:
    """So many multiplications, no two alike, dealt out to so many sessions."""
    found = []
    for n in range(first, first + count):
        a, b = 12 + n, 17 + (7 * n) % 61
        name = f"{run}-{n % sessions}"
        found.append(Question(name, f"{run}-task-{n}", f"What is {a} * {b}?", str(a * b)))
    return tuple(found)


def faults(question: Question, facts: Iterable[StoredFact]) -> list[str]:
    """What is wrong with a task, from the facts of its session; empty: nothing.

    A step with two results counts as done twice, whichever of them the loop took.
    """
    own = [stored.fact for stored in facts if stored.task == question.task]
    ends = [fact for fact in own if isinstance(fact, Done)]
    if len(ends) != 1:
        return [f"{question.task} ended {len(ends)} times"]
    found = []
    if ends[0].status != "completed":
        found.append(f"{question.task} is {ends[0].status}")
    if not mentions(ends[0].output, question.answer):
        found.append(f"{question.task}: the answer lacks {question.answer}")
    if twice := repeated(own):
        found.append(f"{question.task} has two results of step {', '.join(map(str, twice))}")
    return found


def repeated(facts: Sequence[object]) -> list[int]:
    """The steps with more than one result."""
    results = [f.step for f in facts if isinstance(f, Inferred | ToolDone)]
    results += [f.step for f in facts if isinstance(f, ToolFailed) and not f.retry]
    return sorted(step for step, count in Counter(results).items() if count > 1)


def underway(questions: Iterable[Question], facts: Iterable[StoredFact], last: int) -> int:
    """How many of these tasks had not ended yet when the log was at `last`.

    A number of the log, because two clocks need not agree.
    """
    ended = {
        stored.task for stored in facts if isinstance(stored.fact, Done) and stored.seq <= last
    }
    return sum(question.task not in ended for question in questions)


def workers(facts: Iterable[StoredFact]) -> set[str]:
    """Who has answered the model calls of these facts."""
    return {stored.fact.worker for stored in facts if isinstance(stored.fact, Inferred)}


def tokens(facts: Iterable[StoredFact]) -> int:
    """What the model calls of these facts used, the first result of a step counted."""
    first: dict[tuple[str, int], int] = {}
    for stored in facts:
        if isinstance(stored.fact, Inferred):
            used = stored.fact.usage.input + stored.fact.usage.output
            first.setdefault((stored.task, stored.fact.step), used)
    return sum(first.values())
