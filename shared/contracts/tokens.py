"""Token deltas: what a viewer sees while a model speaks. Minutes of retention, never the truth."""

from __future__ import annotations

from shared.contracts.base import Message
from shared.contracts.facts import Finish, Timings, ToolCall, Usage
from shared.errors import Failure


class TokenDelta(Message, frozen=True):
    """`tokens.<tenant>.<session>.<task>`: the n-th piece of what a step says, counted from 0.

    Pieces of what it thinks before it answers come first: they have no text.
    """

    task: str
    step: int
    index: int
    text: str
    attempt: int = 1
    reasoning: str = ""


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
    reasoning: str = ""
    """What the model thought before it answered."""


class Logprob(Message, frozen=True):
    """A token of an answer and how likely the model thought it, before temperature and masks.

    `bytes` are what it is in the answer, None for one that is never seen there (an end mark);
    `text` is how it is written, `top` are the likeliest ones at its place, best first.
    """

    text: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top: tuple[Logprob, ...] = ()


class DirectEvent(Message, frozen=True):
    """One event of a stateless completion: a piece of text or of reasoning, a call, or its end.

    `logprobs` stands beside text where it was asked for. The first event of an answer has the
    `fingerprint` of what computes it: the same request with the same seed gives the same answer
    under the same one. `done` repeats all of it. With `done` and `error` it was computed, and is
    not what was asked for.
    """

    text: str | None = None
    done: DirectResult | None = None
    error: Failure | None = None
    call: ToolCall | None = None
    logprobs: tuple[Logprob, ...] = ()
    fingerprint: str = ""
    reasoning: str = ""
    recorded: bool = False
    """The worker that met the `error` has written it down."""
    vectors: tuple[str, ...] = ()
    """The next vectors of an embedding, in the order of its inputs (`embeddings.packed`)."""
