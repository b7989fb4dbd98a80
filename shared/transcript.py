"""The transcript: a projection of the facts that a model can be shown. Pure, always balanced.

Every tool call that is shown has exactly one result, whatever was cancelled, failed or lost, and
the messages of a prefix of the log are a prefix of the messages of the log, so that a worker's
prefix cache stays warm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.contracts.facts import (
    Accepted,
    Deleted,
    Done,
    Inferred,
    ToolCall,
    ToolDone,
    ToolFailed,
)
from shared.contracts.log import StoredFact
from shared.contracts.tasks import TaskSubmitted, text_of

Message = dict[str, object]
"""A chat message in the OpenAI shape: role, content, tool_calls, tool_call_id."""


@dataclass(slots=True)
class _Turn:
    """One answer of the model and the results that came for its calls."""

    said: Inferred
    results: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return all(call.id in self.results for call in self.said.tool_calls)


@dataclass(slots=True)
class _Task:
    instructions: str
    task: str
    input: list[Message]
    since: int = 0
    turns: list[_Turn] = field(default_factory=list)
    steps: set[int] = field(default_factory=set)
    ended: bool = False


@dataclass(slots=True)
class Transcript:
    """Folds facts in order; `seq` is the last one folded. Facts up to it are ignored."""

    seq: int = 0
    _tasks: list[_Task] = field(default_factory=list)
    _submitted: dict[str, TaskSubmitted | None] = field(default_factory=dict)
    """Tasks that wait; None for one that was refused, which no late `accepted` can start."""

    def fold(self, stored: Iterable[StoredFact]) -> Transcript:
        """Add facts; returns itself."""
        for fact in stored:
            if fact.seq > self.seq:
                self.seq = fact.seq
                if isinstance(fact.fact, Deleted):
                    self._deleted(fact.fact)
                else:
                    self._one(fact)
        return self

    def _one(self, stored: StoredFact) -> None:
        fact = stored.fact
        if isinstance(fact, TaskSubmitted):
            self._submitted.setdefault(stored.task, fact)
        elif isinstance(fact, Accepted):
            self._accepted(fact, stored.seq)
        elif isinstance(fact, Inferred):
            if (task := self._open(fact.task)) and fact.step not in task.steps:
                task.steps.add(fact.step)
                task.turns.append(_Turn(fact))
        elif isinstance(fact, ToolDone):
            self._result(fact, fact.result)
        elif isinstance(fact, ToolFailed):
            self._result(fact, f"error: {fact.error.detail or fact.error.code}")
        elif isinstance(fact, Done):
            self._ended(fact)

    def _deleted(self, fact: Deleted) -> None:
        """Nothing up to there was ever said."""
        self._tasks = [task for task in self._tasks if task.since > fact.upto]
        self._submitted = {name: one for name, one in self._submitted.items() if one is not None}

    def _accepted(self, fact: Accepted, seq: int) -> None:
        submitted = self._submitted.pop(fact.task, None)
        if submitted is not None and self._find(fact.task) is None:
            self._tasks.append(_Task(fact.agent.instructions, fact.task, _input(submitted), seq))

    def _ended(self, fact: Done) -> None:
        task = self._find(fact.task)
        if task is not None:
            task.ended = True
        else:
            self._submitted[fact.task] = None

    def _result(self, fact: ToolDone | ToolFailed, text: str) -> None:
        task = self._open(fact.task)
        if task is None or fact.step in task.steps:
            return
        for turn in task.turns:
            if any(call.id == fact.call for call in turn.said.tool_calls):
                task.steps.add(fact.step)
                turn.results.setdefault(fact.call, text)

    def _open(self, task: str) -> _Task | None:
        """A task that goes on: what comes after its end must not change what was shown."""
        found = self._find(task)
        return None if found is None or found.ended else found

    def _find(self, task: str) -> _Task | None:
        return next((one for one in reversed(self._tasks) if one.task == task), None)

    def messages(self) -> list[Message]:
        """The conversation so far; the system message is that of the newest task."""
        if not self._tasks:
            return []
        system: Message = {"role": "system", "content": self._tasks[-1].instructions}
        return [system, *(message for task in self._tasks for message in _shown(task))]


def _input(submitted: TaskSubmitted) -> list[Message]:
    if isinstance(submitted.input, str):
        return [{"role": "user", "content": submitted.input}]
    return [{"role": one.role, "content": text_of(one.content)} for one in submitted.input]


def _shown(task: _Task) -> list[Message]:
    """The messages of a task. A turn with missing results is left out: it was never finished."""
    messages = list(task.input)
    for turn in task.turns:
        if not turn.complete:
            break
        messages.append(_assistant(turn.said))
        messages += [
            {"role": "tool", "tool_call_id": call.id, "content": turn.results[call.id]}
            for call in turn.said.tool_calls
        ]
    if task.ended and messages and messages[-1]["role"] != "assistant":
        # what follows is another task: two user turns in a row would break the alternation
        messages.append({"role": "assistant", "content": ""})
    return messages


def _assistant(said: Inferred) -> Message:
    message: Message = {"role": "assistant", "content": said.content}
    if said.tool_calls:
        message["tool_calls"] = [_call(call) for call in said.tool_calls]
    return message


def _call(call: ToolCall) -> Message:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }
