"""Agent definitions and task limits: what a session needs to know to run its loop."""

from __future__ import annotations

from typing import Annotated

import msgspec

from shared.contracts.base import Message


class Limits(Message, frozen=True):
    """Bounds of one task. `max_tokens` counts input and output over all its model calls."""

    max_steps: int = 24
    max_tokens: int = 200_000
    deadline_s: float = 600.0


class LimitsPatch(Message, frozen=True):
    """The limits a task asks for; what is absent comes from the agent."""

    max_steps: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    deadline_s: Annotated[float, msgspec.Meta(gt=0)] | None = None


class Sampling(Message, frozen=True):
    """How the model is sampled. Names and meaning as in the OpenAI API."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int | None = None
    stop: tuple[str, ...] = ()


class ToolSpec(Message, frozen=True):
    """A tool as the model sees it; `parameters` is a JSON schema of an object."""

    name: str
    description: str = ""
    parameters: dict[str, object] = msgspec.field(default_factory=dict)


class AgentSpec(Message, frozen=True):
    """One revision of an agent. It is copied into `accepted`, so a log explains itself."""

    name: str
    instructions: str = "You are a helpful agent."
    route: str = "default"
    tools: tuple[str, ...] = ()
    limits: Limits = msgspec.field(default_factory=Limits)
    sampling: Sampling = msgspec.field(default_factory=Sampling)
    collection: str = "default"
