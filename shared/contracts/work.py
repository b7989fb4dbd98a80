"""Work: instructions derived from the state of a session. Never the source of truth."""

from __future__ import annotations

import msgspec

from shared.contracts.agents import Priority, Sampling, ToolSpec
from shared.contracts.base import Message, SessionRef
from shared.contracts.demands import Demands
from shared.contracts.embeddings import EmbeddingInput


class Recent(Message, frozen=True):
    """The facts after a log position, so that whoever knows the log up to it need not read it.

    A hint and nothing more: it may be missing, and what it says is in the log.
    """

    after: int
    facts: tuple[LoggedFact, ...] = ()


class LoggedFact(Message, frozen=True):
    """A fact as a `Recent` carries it; `kind` is its token, `body` its JSON."""

    seq: int
    kind: str
    task: str
    body: dict[str, object]


class RouteStep(Message, frozen=True):
    """`work.route`: find a model and a worker for this model call."""

    ref: SessionRef
    task: str
    step: int
    route: str
    seq: int
    """The log position up to which the transcript must be read."""
    sampling: Sampling
    tools: tuple[str, ...] = ()
    attempt: int = 1
    deadline: float = 0.0
    recent: Recent | None = None
    agents: tuple[ToolSpec, ...] = ()
    """Agents that may be asked, as tools."""
    skip: int = 0
    """How many targets of the route have been given up for this step."""
    asked: float = 0.0
    """When it was decided (the log's clock): what comes long after may be a repetition."""
    demands: Demands = Demands()
    functions: tuple[ToolSpec, ...] = ()
    """The client's own tools."""
    priority: Priority = "interactive"
    served: str = ""
    """The worker of the session's last model call: its cache holds the beginning of this one."""


class Target(Message, frozen=True):
    """What the router chose, with the prices that the fact will carry."""

    model: str
    worker: str = "any"
    input_price: int = 0
    """Millionths of a cent per million input tokens; `output_price` likewise."""
    output_price: int = 0
    cached_price: int | None = None
    """Of the input that a prefix cache held; None: as any input."""
    why: str = ""
    """Why this one, in a word or two (`services.router.core`); it goes into the fact."""


class InferStep(Message, frozen=True):
    """`work.infer.<model>.<any|w.ID>`: run this model call."""

    route: RouteStep
    target: Target
    published: float = 0.0
    """Epoch seconds at which the router handed it over; gives `queued_ms`."""


class RunTool(Message, frozen=True):
    """`work.tool.<name>`: run this tool call."""

    ref: SessionRef
    task: str
    step: int
    call: str
    name: str
    arguments: str
    collection: str = "default"
    deadline: float = 0.0
    attempt: int = 1
    seq: int = 0
    """The log position that it was decided on; `asked` is when."""
    asked: float = 0.0
    final: bool = True
    """There is no try after this one: an error of any family is the result."""


class ChatMessage(Message, frozen=True):
    """One message of a stateless completion, OpenAI-shaped."""

    role: str
    content: str | None = None
    tool_calls: tuple[dict[str, object], ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str = ""
    """What was thought before it, as the client got it; a model sees it within a turn only."""


class DirectRequest(Message, frozen=True):
    """A stateless completion: ingress -> router (`direct.route`) -> worker, core request/reply.

    The answer is a sequence of `DirectEvent`s on the reply inbox, the last one with `done` or
    `error` set.
    """

    id: str
    tenant: str
    model: str
    messages: tuple[ChatMessage, ...]
    sampling: Sampling = msgspec.field(default_factory=Sampling)
    tools: tuple[ToolSpec, ...] = ()
    demands: Demands = Demands()
    count_only: bool = False
    """Only the prompt's tokens are counted; `done` comes with them and without an answer."""
    target: Target | None = None
    """Filled in by the router."""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    """Goes into the usage fact as it is."""
    priority: Priority = "interactive"
    key: str = ""
    """The id of the caller's API key; `trace_id` is of its request. Both go there too."""
    trace_id: str = ""
    whole: bool = False
    """Nobody reads along: what `done` repeats in any case need not come before it."""
    needs: dict[str, str] = msgspec.field(default_factory=dict)
    """Ability -> the field that asks for it: all that the router has to know of the rest."""
    embedding: EmbeddingInput | None = None
    """In the place of messages: what is to become vectors. They come in `DirectEvent.vectors`."""
