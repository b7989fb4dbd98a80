"""Where a request that comes back belongs: to the response that its results open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from services.ingress.core.responses.fold import Place, Response
from shared.contracts.base import task_of_call
from shared.contracts.facts import Accepted
from shared.contracts.log import StoredFact
from shared.contracts.tasks import InputMessage, Terms, text_of

Outputs = Mapping[str, str]
"""Call -> what it returned."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a client brings back for the calls of a task.

    `said` are its words beside the results; the model hears them behind those.
    """

    outputs: Outputs
    said: tuple[InputMessage, ...] = ()
    terms: Terms | None = None


@dataclass(frozen=True, slots=True)
class Next:
    """The response that results open, and the calls that have to be told yet."""

    place: Place
    untold: tuple[str, ...] = field(default=())


def outputs_of(results: Iterable[InputMessage]) -> dict[str, str]:
    """The results by their calls."""
    return {one.tool_call_id: text_of(one.content) for one in results}


def task_of(outputs: Outputs) -> str | None:
    """The one task that made all these calls, as far as their ids tell."""
    tasks = {task_of_call(call) for call in outputs}
    return tasks.pop() if len(tasks) == 1 else None


def opened_by(responses: Iterable[Response], outputs: Outputs) -> Next | None:
    """The response that these results open, or have opened; None where they do not fit.

    All calls that wait need a result. Said a second time, the results lead to the response that
    they have led to; a request that was cut off in the middle is completed.
    """
    found = list(responses)
    if not found or not outputs:
        return None
    last = found[-1]
    if {call.id for call in last.waiting} == set(outputs):
        return Next(Place(last.place.task, last.place.number + 1), tuple(outputs))
    for before, response in pairwise(found):
        if {call.id for call in before.waiting} != set(outputs):
            continue
        told = outputs_of(one for one in response.input if one.tool_call_id)
        if all(outputs.get(call) == text for call, text in told.items()):
            untold = tuple(call for call in outputs if call not in told)
            return Next(response.place, untold if response is last else ())
    return None


def agent_of(history: Iterable[StoredFact]) -> str:
    """The agent that works on a task."""
    accepted = (one.fact for one in history if isinstance(one.fact, Accepted))
    return next((fact.agent.name for fact in accepted), "")
