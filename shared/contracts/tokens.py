"""Token deltas: what a viewer sees while a model speaks. Minutes of retention, never the truth."""

from __future__ import annotations

from shared.contracts.base import Message
from shared.contracts.facts import Finish, Timings, ToolCall, Usage
from shared.errors import Failure


class TokenDelta(Message, frozen=True):
    """`tokens.<tenant>.<session>.<task>`: the n-th piece of a step's text, counted from 0."""

    task: str
    step: int
    index: int
    text: str
    attempt: int = 1


class DirectResult(Message, frozen=True):
    """The end of a stateless completion."""

    content: str
    tool_calls: tuple[ToolCall, ...]
    finish: Finish
    usage: Usage
    model: str
    worker: str
    timings: Timings
    stop_string: str | None = None
    """The one of `Sampling.stop` that ended it."""


class DirectEvent(Message, frozen=True):
    """One event of a stateless completion; exactly one field is set."""

    text: str | None = None
    done: DirectResult | None = None
    error: Failure | None = None
