"""Giving the results of a client's tools to the task that waits for them."""

from __future__ import annotations

from collections.abc import Sequence

from services.ingress.core.responses.fold import TaskFold
from services.ingress.core.responses.place import Answers, Next, agent_of, opened_by
from services.ingress.ports import TaskHandle
from shared.contracts.facts import Steered
from shared.contracts.log import StoredFact
from shared.contracts.tasks import text_of

BY = "client"


async def go_on(task: TaskHandle, answers: Answers, agent: str = "") -> Next | None:
    """Tell the results; the response that begins with them.

    None where they do not fit what waits, or the task is another agent's: then nothing was told.

    Raises:
        Permanent: why the terms that come along cannot be.
    """
    history: Sequence[StoredFact] = await task.facts()
    fold = TaskFold(task.id).fold(history)
    found = opened_by(fold.responses, answers.outputs)
    if found is None or (agent and agent_of(history) != agent):
        return None
    words = "\n".join(text for one in answers.said if (text := text_of(one.content)))
    name = f"with-{found.place.number}"
    if not found.untold:
        return found if _said(history, name) == words else None
    if words:  # before the results: behind them the model would begin without having heard it
        await task.steer(words, id=name, by=BY)
    for number, call in enumerate(found.untold):
        terms = answers.terms if number == 0 else None
        await task.answer(call, answers.outputs[call], terms=terms, by=BY)
    return found


def _said(history: Sequence[StoredFact], name: str) -> str:
    """The words that came with results."""
    facts = (one.fact for one in history if isinstance(one.fact, Steered))
    return next((fact.text for fact in facts if fact.id == name), "")
