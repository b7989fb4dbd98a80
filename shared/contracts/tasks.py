"""The request side: what a client publishes to `tasks.<tenant>.<agent>.<session>`."""

from __future__ import annotations

import hashlib

import msgspec

from shared.contracts.agents import LimitsPatch, OnBusy, Priority, Sampling, ToolSpec
from shared.contracts.base import Message, SessionRef, step_id
from shared.contracts.demands import Demands
from shared.errors import Permanent


class TextPart(Message, frozen=True):
    """A part of a message, as in the OpenAI API; text is the only kind so far."""

    text: str
    type: str = "text"


class PastCall(Message, frozen=True):
    """A call in the history that a client brings along; `arguments` is JSON as text."""

    id: str
    name: str
    arguments: str


class InputMessage(Message, frozen=True):
    """One message of a longer input (a whole chat history, for example).

    Each of an assistant's `tool_calls` is followed by one message of role `tool` that names it in
    `tool_call_id`, before anything else is said.
    """

    role: str
    content: str | tuple[TextPart, ...]
    tool_calls: tuple[PastCall, ...] = ()
    tool_call_id: str = ""


class Terms(Message, frozen=True):
    """What a client wants of the model calls that follow, beside its input."""

    tools: tuple[ToolSpec, ...] = ()
    """Its own tools: it answers their calls itself."""
    instructions: str = ""
    """Stand behind the agent's."""
    route: str = ""
    """In the place of the agent's; empty: that one."""
    demands: Demands = Demands()
    sampling: Sampling | None = None
    """Absent: the agent's."""
    priority: Priority | None = None
    """Absent: the agent's."""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)


NO_TERMS = Terms()


class Parent(Message, frozen=True):
    """The call of another session's task that this task answers."""

    session: str
    task: str
    step: int
    call: str
    name: str
    depth: int = 1


class TaskSubmitted(Message, frozen=True):
    """A task. The smallest body is `{"input": "What is 17 * 23?"}`.

    The task id is the `Nats-Msg-Id` header, or `t<sequence>` where there is none.
    """

    input: str | tuple[InputMessage, ...]
    limits: LimitsPatch = msgspec.field(default_factory=LimitsPatch)
    sampling: Sampling | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    on_busy: OnBusy | None = None
    """Absent: what the agent of the running task says."""
    retry_of: str = ""
    """A task of this session that failed: go on from its last good step; `input` is not used."""
    parent: Parent | None = None
    """Set by the loop alone: a task that says so and is not named as `child_of` says is refused."""
    tools: tuple[ToolSpec, ...] = ()
    """The client's own tools, see `Terms`; likewise what follows it."""
    instructions: str = ""
    route: str = ""
    demands: Demands = Demands()
    priority: Priority | None = None
    fingerprint: str = ""
    """Of the request whose idempotency key named the task: tells a repetition from another."""


def check_repeated(task: TaskSubmitted, fingerprint: str) -> None:
    """Refuse a request that differs from the one that named this task; one without a mark passes.

    Raises:
        Permanent: `idempotency_conflict`.
    """
    ours = task.retry_of or task.parent is not None
    if ours or task.fingerprint not in ("", fingerprint):
        raise Permanent(
            "idempotency_conflict",
            "the key names the task of another request: take a new one for a new request",
            field="idempotency_key",
        )


def terms_of(task: TaskSubmitted) -> Terms:
    """What a task wants beside its input and its sampling."""
    terms = Terms(
        tools=task.tools,
        instructions=task.instructions,
        route=task.route,
        demands=task.demands,
        priority=task.priority,
    )
    return NO_TERMS if terms == NO_TERMS else terms  # the very default is left out on the wire


CHILD = "sub-"
"""How the sessions begin in which agents are asked by agents: each for one task."""


def child_of(ref: SessionRef, task: str, step: int) -> tuple[SessionRef, str]:
    """Session and task that a call to another agent becomes: derived, so asked for once."""
    name = hashlib.blake2b(f"{ref}/{step_id(task, step)}".encode(), digest_size=12).hexdigest()
    return SessionRef(ref.tenant, f"{CHILD}{name}"), f"{CHILD}{name}"


def said(task: TaskSubmitted) -> str:
    """The text of what a client asks: its input, or the last message of a longer one."""
    if isinstance(task.input, str):
        return task.input
    return text_of(task.input[-1].content) if task.input else ""


def text_of(content: str | tuple[TextPart, ...]) -> str:
    """The text of a message's content, its parts joined by newlines."""
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content)
