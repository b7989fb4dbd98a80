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
    Approved,
    Deleted,
    Done,
    Inferred,
    Noted,
    Parked,
    Rejected,
    Steered,
    TimerFired,
    ToolCall,
    ToolDone,
    ToolFailed,
)
from shared.contracts.log import StoredFact
from shared.contracts.tasks import InputMessage, TaskSubmitted, text_of

Message = dict[str, object]
"""A chat message in the OpenAI shape: role, content, tool_calls, tool_call_id."""


THOUGHT = "reasoning_content"
"""Where a message has what the model thought, as the chat templates name it."""


GO_ON = "Go on."
"""What stands for the user where a retry goes on behind an answer."""


@dataclass(slots=True)
class _Turn:
    """One answer of the model, the results of its calls, and what was said to it meanwhile.

    `arguments` holds what a person wrote in the place of the model's own.
    """

    said: Inferred
    results: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return all(call.id in self.results for call in self.said.tool_calls)


@dataclass(slots=True)
class _Task:
    agent: str
    """The agent's own instructions; `own` are those of the client behind them."""
    own: str
    task: str
    input: list[Message]
    since: int = 0
    turns: list[_Turn] = field(default_factory=list)
    steps: set[int] = field(default_factory=set)
    calls: dict[int, str] = field(default_factory=dict)
    """Step -> call, of the steps that wait for a person or the client."""
    clients: set[int] = field(default_factory=set)
    """Those that wait for the client."""
    unheard: list[str] = field(default_factory=list)
    """What was said while the model was speaking: it stands behind the answer that comes."""
    heard: set[str] = field(default_factory=set)
    ended: bool = False
    continued: bool = False
    """A later task goes on with it."""
    note: bool = False
    """Nobody was asked: the name is that of what was set down."""

    @property
    def instructions(self) -> str:
        return "\n\n".join(part for part in (self.agent, self.own) if part)


@dataclass(slots=True)
class Transcript:
    """Folds facts in order; `seq` is the last one folded. Facts up to it are ignored."""

    seq: int = 0
    _tasks: list[_Task] = field(default_factory=list)
    _submitted: dict[str, TaskSubmitted | None] = field(default_factory=dict)
    """Tasks that wait; None for one that was refused, which no late `accepted` can start."""
    _hidden: set[str] = field(default_factory=set)
    _notes: set[str] = field(default_factory=set)

    def fold(self, stored: Iterable[StoredFact]) -> Transcript:
        """Add facts; returns itself."""
        for fact in stored:
            if fact.seq > self.seq:
                self.seq = fact.seq
                match fact.fact:
                    case Deleted():
                        self._deleted(fact.fact)
                    case Noted():
                        self._noted(fact.fact, fact.seq)
                    case _:
                        self._one(fact)
        return self

    def _one(self, stored: StoredFact) -> None:
        fact = stored.fact
        match fact:
            case TaskSubmitted():
                self._submitted.setdefault(stored.task, fact)
            case Accepted():
                self._accepted(fact, stored.seq)
            case Done():
                self._ended(fact)
            case Inferred() | ToolDone() | ToolFailed() | Steered():
                if (task := self._open(fact.task)) is not None:
                    _said(task, fact)
            case Parked() | Approved() | Rejected() | TimerFired():
                if (task := self._open(fact.task)) is not None and fact.step is not None:
                    _asked(task, fact, fact.step)

    def _deleted(self, fact: Deleted) -> None:
        """Nothing up to there was ever said."""
        self._tasks = [task for task in self._tasks if task.since > fact.upto]
        self._submitted = {name: one for name, one in self._submitted.items() if one is not None}

    def _noted(self, fact: Noted, seq: int) -> None:
        if fact.note in self._notes:
            return  # set down once, however often it was said
        self._notes.add(fact.note)
        self._hidden |= set(fact.hidden)
        if fact.messages:
            given = [_given(one) for one in fact.messages]
            self._tasks.append(_Task("", "", fact.note, given, seq, ended=True, note=True))

    def _accepted(self, fact: Accepted, seq: int) -> None:
        submitted = self._submitted.pop(fact.task, None)
        if submitted is None or self._find(fact.task) is not None:
            return
        given = _input(submitted)
        last = self._last
        if submitted.retry_of and last is not None and last.task == submitted.retry_of:
            last.continued = True
            given = []
        own = fact.terms.instructions
        self._tasks.append(_Task(fact.agent.instructions, own, fact.task, given, seq))

    @property
    def _last(self) -> _Task | None:
        """The newest task, not a note."""
        return next((one for one in reversed(self._tasks) if not one.note), None)

    def _ended(self, fact: Done) -> None:
        task = self._find(fact.task)
        if task is not None:
            task.ended = True
        else:
            self._submitted[fact.task] = None

    def _open(self, task: str) -> _Task | None:
        """A task that goes on: what comes after its end must not change what was shown."""
        found = self._find(task)
        return None if found is None or found.ended else found

    def _find(self, task: str) -> _Task | None:
        found = (one for one in reversed(self._tasks) if one.task == task and not one.note)
        return next(found, None)

    def messages(self, *, reasoning: bool = False) -> list[Message]:
        """The conversation so far; the system message is that of the newest task.

        With `reasoning` the answers of the newest task have what was thought before them, as
        `reasoning_content`: no model is shown what it thought in earlier turns.
        """
        last = self._last
        words = last.instructions if last is not None else ""
        messages: list[Message] = [{"role": "system", "content": words}] if words else []
        first = len(messages)
        for task in self._tasks:
            shown = _shown(task, self._hidden, reasoning=reasoning and task is last)
            said = bool(task.input) and bool(shown)
            if said and len(messages) > first and messages[-1]["role"] != "assistant":
                # two user turns in a row would break the alternation
                messages.append({"role": "assistant", "content": ""})
            if not task.input and messages and messages[-1]["role"] == "assistant":
                # a retry of a task that had been answered when it was ended: nothing is asked
                messages.append({"role": "user", "content": GO_ON})
            messages += shown
        return messages


def _said(task: _Task, fact: Inferred | ToolDone | ToolFailed | Steered) -> None:
    match fact:
        case Inferred():
            if fact.step not in task.steps:
                task.steps.add(fact.step)
                task.turns.append(_Turn(fact, heard=task.unheard))
                task.unheard = []
        case ToolDone():
            _result(task, fact.step, fact.call, fact.result)
        case ToolFailed(retry=False):
            _result(task, fact.step, fact.call, f"error: {fact.error.detail or fact.error.code}")
        case Steered():
            if fact.id not in task.heard:
                task.heard.add(fact.id)
                listening = bool(task.turns) and not task.turns[-1].complete
                (task.turns[-1].heard if listening else task.unheard).append(fact.text)


def _result(task: _Task, step: int, call: str, text: str) -> None:
    if step in task.steps:
        return
    for turn in task.turns:
        if any(one.id == call for one in turn.said.tool_calls):
            task.steps.add(step)
            turn.results.setdefault(call, text)


def _asked(task: _Task, fact: Parked | Approved | Rejected | TimerFired, step: int) -> None:
    """A question to a person, and the first answer to it."""
    turn = task.turns[-1] if task.turns else None
    if turn is None or (isinstance(fact, TimerFired) and fact.timer != "approval") or fact.hold:
        return
    if not isinstance(fact, Parked):
        if (call := task.calls.pop(step, None)) is not None:
            _answered(task, turn, fact, (step, call))
        return
    place = step - turn.said.step - 1  # the steps of an answer's calls follow its own
    if 0 <= place < len(turn.said.tool_calls):
        task.calls.setdefault(step, turn.said.tool_calls[place].id)
        if fact.reason == "client_tool":
            task.clients.add(step)


def _answered(
    task: _Task, turn: _Turn, fact: Approved | Rejected | TimerFired, at: tuple[int, str]
) -> None:
    step, call = at
    match fact:
        case Approved(result=None):
            if fact.arguments is not None:
                turn.arguments[call] = fact.arguments
        case Approved():
            _result(task, step, call, fact.result or "")
            if fact.terms is not None:
                task.own = fact.terms.instructions
        case Rejected():
            _result(task, step, call, f"error: a person did not allow this. {fact.note}".rstrip())
        case TimerFired():
            client = step in task.clients
            late = "the client did not answer" if client else "nobody allowed this"
            _result(task, step, call, f"error: {late} in time")


def _input(submitted: TaskSubmitted) -> list[Message]:
    if isinstance(submitted.input, str):
        return [{"role": "user", "content": submitted.input}]
    return [_given(one) for one in submitted.input]


def _given(given: InputMessage) -> Message:
    """A message that a client brought along."""
    message: Message = {"role": given.role, "content": text_of(given.content)}
    if given.tool_calls:
        message["tool_calls"] = [
            _function(call.id, call.name, call.arguments) for call in given.tool_calls
        ]
    if given.tool_call_id:
        message = {"role": given.role, "tool_call_id": given.tool_call_id} | message
    return message


def _shown(task: _Task, hidden: set[str], *, reasoning: bool) -> list[Message]:
    """The messages of a task. A turn with missing results is left out: it was never finished."""
    messages = _visible(task, hidden) if hidden else list(task.input)
    for turn in task.turns:
        if not turn.complete:
            break
        calls = _calls(task.task, turn, hidden)
        unsaid = f"{task.task}/{turn.said.step}/text" in hidden
        text = "" if unsaid else turn.said.content
        if text or calls or not hidden:
            gone = unsaid or f"{task.task}/{turn.said.step}/thought" in hidden
            thought = turn.said.reasoning if reasoning and not gone else ""
            messages.append(_assistant(turn, text, calls, thought))
        messages += [
            {"role": "tool", "tool_call_id": call.id, "content": turn.results[call.id]}
            for call in calls
        ]
        if turn.heard:
            messages.append({"role": "user", "content": "\n".join(turn.heard)})
    return messages


def _visible(task: _Task, hidden: set[str]) -> list[Message]:
    """An input without what is hidden; the results of a hidden call go with it."""
    shown: list[Message] = []
    gone: set[object] = set()
    for number, message in enumerate(task.input):
        calls = message.get("tool_calls")
        if f"{task.task}/in/{number}" in hidden:
            gone |= {call["id"] for call in calls} if isinstance(calls, list) else set()
        elif message.get("tool_call_id", "") not in gone:
            shown.append(message)
    return shown


def _calls(task: str, turn: _Turn, hidden: set[str]) -> list[ToolCall]:
    """The calls of an answer that are shown."""
    places = enumerate(turn.said.tool_calls)
    return [call for n, call in places if f"{task}/{turn.said.step}/{n}" not in hidden]


def _assistant(turn: _Turn, text: str, calls: list[ToolCall], thought: str) -> Message:
    message: Message = {"role": "assistant", "content": text}
    if thought:
        message[THOUGHT] = thought
    if calls:
        message["tool_calls"] = [_call(turn, call) for call in calls]
    return message


def _call(turn: _Turn, call: ToolCall) -> Message:
    return _function(call.id, call.name, turn.arguments.get(call.id, call.arguments))


def _function(id: str, name: str, arguments: str) -> Message:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
