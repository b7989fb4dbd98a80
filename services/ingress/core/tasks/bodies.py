"""The bodies of the tasks, documents and search resources, as pydantic models.

Strict: a wrong type is refused and named, an unknown field too, because a field that is
silently ignored is worse than an error.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.ingress.core.http.validation import MAX_MESSAGES
from shared.contracts.agents import LimitsPatch, OnBusy, Priority
from shared.contracts.tasks import InputMessage, TextPart

Text = Annotated[str, Field(min_length=1)]
Metadata = Annotated[dict[str, str], Field(max_length=32)]


class Body(BaseModel):
    """Base of the HTTP bodies."""

    model_config = ConfigDict(extra="forbid", strict=True)


class TextPartBody(Body):
    """A part of a message; text is the only kind so far."""

    type: Literal["text"]
    text: str


class MessageBody(Body):
    """One message of a longer input."""

    role: Literal["system", "user", "assistant"]
    content: str | list[TextPartBody]

    def as_input(self) -> InputMessage:
        """The message as it stands in a task."""
        if isinstance(self.content, str):
            return InputMessage(role=self.role, content=self.content)
        parts = tuple(TextPart(text=part.text) for part in self.content)
        return InputMessage(role=self.role, content=parts)


Messages = Annotated[list[MessageBody], Field(min_length=1, max_length=MAX_MESSAGES)]


class LimitsBody(Body):
    """Bounds of one task; what is absent comes from the agent."""

    max_steps: int | None = Field(default=None, ge=1, le=10_000)
    max_tokens: int | None = Field(default=None, ge=1)
    deadline_s: float | None = Field(default=None, gt=0, le=30 * 86_400)
    max_cost: int | None = Field(default=None, ge=0, description="in millionths of a cent")
    max_repeats: int | None = Field(
        default=None, ge=1, description="how often in a row the model may ask for the same calls"
    )

    def as_patch(self) -> LimitsPatch:
        """The limits as they stand in a task."""
        return LimitsPatch(**self.model_dump())


class AskBody(Body):
    """What is asked of an agent."""

    agent: str = Field(description="the name of an agent", examples=["assistant"])
    input: Text | Annotated[list[MessageBody], Field(min_length=1, max_length=MAX_MESSAGES)] = (
        Field(examples=["What is 17 * 23?"])
    )
    session: str | None = Field(
        default=None,
        description="1 to 64 characters from A-Z a-z 0-9 _ -; absent: a new session",
    )
    limits: LimitsBody | None = None
    metadata: Metadata = Field(default_factory=dict)
    on_busy: OnBusy | None = Field(
        default=None, description="what becomes of it on a busy session; else the agent's policy"
    )
    priority: Priority | None = Field(
        default=None, description="batch: it waits while interactive work does; else the agent's"
    )

    def as_input(self) -> str | tuple[InputMessage, ...]:
        """The input as it stands in a task."""
        if isinstance(self.input, str):
            return self.input
        return tuple(message.as_input() for message in self.input)


class TaskBody(AskBody):
    """`POST /v1/tasks`."""

    idempotency_key: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        default=None, description="as the header Idempotency-Key"
    )


class CancelBody(Body):
    """`POST /v1/tasks/{id}/cancel`; the body may be left out."""

    by: str = Field(default="", max_length=200)
    reason: str = Field(default="", max_length=2000)


class ForkBody(Body):
    """`POST /v1/sessions/{id}/fork`."""

    at: str = Field(
        description="the step to go on from: `<task>.<n>`, or `<n>` of the last task",
        examples=["4"],
        max_length=100,
    )
    session: str | None = Field(default=None, description="the new session; absent: a new name")
    model: str = Field(default="", max_length=200, description="another route for its model calls")
    input: Text | None = Field(default=None, description="what the task is asked instead")
    results: Metadata = Field(
        default_factory=dict, description="step of a tool call -> what it returned instead"
    )
    by: str = Field(default="", max_length=200)


class ByBody(Body):
    """Who asks for it; the body may be left out."""

    by: str = Field(default="", max_length=200)


class DocumentBody(Body):
    """`PUT /v1/collections/{c}/documents/{id}` as JSON."""

    text: Text
    metadata: Metadata = Field(default_factory=dict)


class SearchBody(Body):
    """`POST /v1/collections/{c}/search`."""

    query: Text
    limit: int = Field(default=3, ge=1, le=100)
    min_score: float = Field(default=0.0, ge=-1.0, le=1.0)
    min_seq: int = Field(
        default=0, ge=0, description="wait until this document sequence is searchable"
    )
    highlight: bool = Field(
        default=False,
        description="the one or two best sentences of each passage; the best passage first",
    )
