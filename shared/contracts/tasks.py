"""The request side: what a client publishes to `tasks.<tenant>.<agent>.<session>`."""

from __future__ import annotations

import hashlib

import msgspec

from shared.contracts.agents import LimitsPatch, OnBusy, Sampling
from shared.contracts.base import Message, SessionRef, step_id


class TextPart(Message, frozen=True):
    """A part of a message, as in the OpenAI API; text is the only kind so far."""

    text: str
    type: str = "text"


class InputMessage(Message, frozen=True):
    """One message of a longer input (a whole chat history, for example)."""

    role: str
    content: str | tuple[TextPart, ...]


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


def child_of(ref: SessionRef, task: str, step: int) -> tuple[SessionRef, str]:
    """Session and task that a call to another agent becomes: derived, so asked for once."""
    name = hashlib.blake2b(f"{ref}/{step_id(task, step)}".encode(), digest_size=12).hexdigest()
    return SessionRef(ref.tenant, f"sub-{name}"), f"sub-{name}"


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
