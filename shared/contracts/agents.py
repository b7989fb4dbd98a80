"""Agent definitions and task limits: what a session needs to know to run its loop."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from shared.contracts.base import Message

OnBusy = Literal["queue", "reject", "interrupt", "steer"]
"""What becomes of a task that meets a running one: wait, fail, end it, or join it."""


Priority = Literal["interactive", "batch"]
"""Whether somebody waits for the answer; work in batches waits while anybody does."""


Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""How much a model shall think before it answers (OpenAI's words); `none`: not at all."""


class Limits(Message, frozen=True):
    """Bounds of one task. `max_tokens` counts input and output over all its model calls.

    `max_cost` is in millionths of a cent, None for no bound. `max_repeats` is how often in a row
    the model may ask for the very same calls before the task counts as going nowhere.
    """

    max_steps: int = 24
    max_tokens: int = 200_000
    deadline_s: float = 600.0
    max_cost: int | None = None
    max_repeats: int = 6
    max_depth: int = 3
    """How deep agents may ask agents; 0 for not at all."""


class LimitsPatch(Message, frozen=True):
    """The limits a task asks for; what is absent comes from the agent."""

    max_steps: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    deadline_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    max_cost: Annotated[int, msgspec.Meta(ge=0)] | None = None
    max_repeats: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Sampling(Message, frozen=True):
    """How the model is sampled. Names and meaning as in the OpenAI API; `top_k` 0 means all.

    The penalties count what the answer holds so far; `logit_bias` is by token id, as text.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_k: Annotated[int, msgspec.Meta(ge=0)] = 0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[str, float] = msgspec.field(default_factory=dict)


class ToolSpec(Message, frozen=True):
    """A tool as the model sees it; `parameters` is a JSON schema of an object.

    With `strict` the arguments of a call are held to that schema.
    """

    name: str
    description: str = ""
    parameters: dict[str, object] = msgspec.field(default_factory=dict)
    strict: bool = False


class RetryPolicy(Message, frozen=True):
    """How a step that failed for the moment is tried again.

    `tries` counts the first one, per target of the route; `tool_tries` likewise for a tool call,
    which has nobody else to turn to. The n-th wait is `base_s` doubled n - 1
    times, at most `max_s`, and of that a share between a half and the whole, which follows from
    the step's id (the "equal jitter" of exponential back-off, AWS Architecture Blog, 2015).
    """

    tries: Annotated[int, msgspec.Meta(ge=1)] = 3
    tool_tries: Annotated[int, msgspec.Meta(ge=1)] = 6
    base_s: Annotated[float, msgspec.Meta(gt=0)] = 0.5
    max_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0


class AgentSpec(Message, frozen=True):
    """One revision of an agent. It is copied into `accepted`, so a log explains itself."""

    name: str
    instructions: str = "You are a helpful agent."
    route: str = "default"
    tools: tuple[str, ...] = ()
    limits: Limits = msgspec.field(default_factory=Limits)
    sampling: Sampling = msgspec.field(default_factory=Sampling)
    collection: str = "default"
    retry: RetryPolicy = RetryPolicy()
    on_busy: OnBusy = "queue"
    on_limit: Literal["fail", "pause"] = "fail"
    """At the end of its steps, tokens or money a task fails, or waits for more of them."""
    approve: tuple[str, ...] = ()
    """Tools whose calls wait for a person."""
    agents: dict[str, str] = msgspec.field(default_factory=dict)
    """Agents that this one may ask, as tools `ask_<name>`; the text tells the model what for."""
    approval_s: float = 7 * 86_400.0
    """How long a task waits for that person, or for a client's tool, in seconds."""
    priority: Priority = "interactive"
    effort: Effort | None = None
    """How much its model thinks, where the task says nothing; absent: as the model does."""


BARE = AgentSpec(
    name="_model",
    instructions="",
    limits=Limits(
        max_steps=1000, max_tokens=10_000_000, deadline_s=3600.0, max_repeats=1000, max_depth=0
    ),
    sampling=Sampling(max_tokens=4096),
)
"""The agent of tasks that need none: no words and no tools but the client's, the task's route.

Its limits are wide, because it is the client that goes on or does not. A file of that name in the
folder of agents takes its place.
"""
