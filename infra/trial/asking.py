"""Asks a running system and waits for the log to say what became of it, through outages.

A good client: what was not acknowledged is submitted again under the same name, so that nothing is
done twice, and what a part of the system cannot say now is asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from infra.trial.questions import AGENT, Question, faults, tokens
from shared.client import Millrace
from shared.clock import monotonic
from shared.contracts.ledger import UsageQuery, UsageReply
from shared.contracts.log import StoredFact
from shared.documents import ask
from shared.errors import Transient
from shared.subjects import LEDGER_USAGE

_PATIENCE = 60.0
_AGAIN = 0.3


@dataclass(frozen=True, slots=True)
class Findings:
    """What the log holds of some questions, and what is wrong with it."""

    questions: int
    facts: int
    faults: tuple[str, ...]
    tokens: int


async def again[A](action: Callable[[], Awaitable[A]], patience: float = _PATIENCE) -> A:
    """The outcome of an action, tried until it is there.

    Raises:
        Transient: the last one, after `patience` seconds.
    """
    end = monotonic() + patience
    while True:
        try:
            return await action()
        except Transient:
            if monotonic() > end:
                raise
            await asyncio.sleep(_AGAIN)


async def submit(millrace: Millrace, questions: Iterable[Question]) -> float:
    """Submit one after the other; the longest wait for an acknowledgement, in seconds."""
    longest = 0.0
    for question in questions:
        began = monotonic()
        await again(lambda asked=question: _submit(millrace, asked))  # type: ignore[misc]
        longest = max(longest, monotonic() - began)
    return longest


async def _submit(millrace: Millrace, question: Question) -> None:
    await millrace.submit(AGENT, question.text, session=question.session, task=question.task)


async def facts_of(
    millrace: Millrace, questions: Iterable[Question]
) -> dict[str, list[StoredFact]]:
    """The facts of every session that was asked."""
    found = {}
    for name in sorted({question.session for question in questions}):
        session = millrace.session(name)
        found[name] = await again(session.history)
    return found


async def ended(
    millrace: Millrace, questions: Sequence[Question], count: int, within: float
) -> int:
    """Wait until so many of the questions have an end, or more; how many that are.

    Raises:
        Transient: `trial_timeout`.
    """
    wanted = {question.task for question in questions}
    done: set[str] = set()
    end = monotonic() + within
    while len(done) < count:
        if monotonic() > end:
            raise Transient("trial_timeout", f"{len(done)} of {count} tasks ended in {within:g} s")
        facts = await facts_of(millrace, (q for q in questions if q.task not in done))
        kinds = (one for stored in facts.values() for one in stored if one.kind == "done")
        done |= {one.task for one in kinds} & wanted
        if len(done) < count:
            await asyncio.sleep(_AGAIN)
    return len(done)


async def judged(millrace: Millrace, questions: Sequence[Question]) -> Findings:
    """Read the log, compare it with the questions, and have the loop check its own decisions."""
    facts = await facts_of(millrace, questions)
    found = [one for question in questions for one in faults(question, facts[question.session])]
    for name in facts:
        check = await again(millrace.session(name).check)
        if check.difference is not None:
            found.append(f"{name}: the present code would not have written this log")
    whole = [stored for stored in facts.values()]
    return Findings(
        len(questions), sum(map(len, whole)), tuple(found), sum(tokens(one) for one in whole)
    )


async def billed(millrace: Millrace, sessions: Iterable[str], settled: int) -> int:
    """The tokens of some sessions as the ledger has them, once it has come to a sequence."""
    total = 0
    for name in sessions:
        query = UsageQuery(millrace.tenant, session=name, min_seq=settled, patience_s=10.0)
        reply = await again(
            lambda asked=query: ask(millrace.bus, LEDGER_USAGE, asked, UsageReply)  # type: ignore[misc]
        )
        if reply.total is not None:
            total += reply.total.usage.input + reply.total.usage.output
    return total
