"""What a session must be told of a message that was buried: the failure that it waits for (pure).

A message of WORK stands for a step, a fired timer for what its task waits for. Whoever buries one
says so in the log where it can; this decides what is still missing there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.contracts.base import SessionRef
from shared.contracts.facts import (
    Accepted,
    Done,
    Fact,
    InferFailed,
    Inferred,
    ToolFailed,
)
from shared.contracts.log import StoredFact
from shared.errors import Failure
from shared.fork import is_tool_result


@dataclass(frozen=True, slots=True)
class Loss:
    """A step (or, without one, a whole task) that nobody works on any more."""

    ref: SessionRef
    task: str
    error: Failure
    step: int | None = None
    attempt: int = 1


def missing_fact(loss: Loss, history: Sequence[StoredFact]) -> Fact | None:
    """The fact that has to be appended, None where the log knows already or nobody waits."""
    facts = [stored.fact for stored in history if stored.task == loss.task]
    started = any(isinstance(fact, Accepted) for fact in facts)
    if not started or any(isinstance(fact, Done) for fact in facts):
        return None
    if loss.step is None:
        return Done(task=loss.task, status="failed", error=loss.error)
    if any(_answers(fact, loss) for fact in facts):
        return None
    call = _call_of(facts, loss.step)
    if call is None:
        return InferFailed(task=loss.task, step=loss.step, error=loss.error, attempt=loss.attempt)
    identity, name = call
    return ToolFailed(
        task=loss.task,
        step=loss.step,
        call=identity,
        name=name,
        error=loss.error,
        attempt=loss.attempt,
    )


def _answers(fact: object, loss: Loss) -> bool:
    """A result of the step, or a failure of this attempt or a later one."""
    match fact:
        case Inferred():
            return fact.step == loss.step
        case InferFailed() | ToolFailed(retry=True):
            return fact.step == loss.step and fact.attempt >= loss.attempt
    return is_tool_result(fact) and getattr(fact, "step", None) == loss.step


def _call_of(facts: Iterable[object], step: int) -> tuple[str, str] | None:
    """Id and name of the tool call that is this step; None for a model call."""
    for fact in facts:
        if isinstance(fact, Inferred):
            place = step - fact.step - 1  # the steps of an answer's calls follow its own
            if 0 <= place < len(fact.tool_calls):
                return fact.tool_calls[place].id, fact.tool_calls[place].name
    return None
