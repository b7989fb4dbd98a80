"""The query parameters of the books, and the question to the ledger that they become. Pure."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from services.ingress.core.books.usage import grouping
from shared.contracts.ledger import (
    RequestKind,
    RequestsQuery,
    SessionsQuery,
    SessionState,
    TasksQuery,
    TaskState,
    UsageQuery,
)

Name = Annotated[str | None, Field(max_length=256)]
Time = Annotated[float, Field(ge=0, lt=2**40, description="epoch seconds")]
Day = Annotated[
    str, Field(pattern=r"^(\d{4}-\d{2}-\d{2})?$", description="a UTC day, inclusive: 2026-01-31")
]
Limit = Annotated[int, Field(ge=1, le=500)]
Before = Annotated[int, Field(ge=0, lt=2**63, description="the `next` of the page before")]
MinSeq = Annotated[
    int,
    Field(
        ge=0,
        lt=2**63,
        description="answer when the log is applied up to here, within `Prefer: wait=N` seconds "
        "(5 without): a client reads what it wrote",
    ),
]


class Parameters(BaseModel):
    """What every list takes."""

    model_config = ConfigDict(extra="forbid")

    agent: Name = None
    min_seq: MinSeq = 0


class UsageParameters(Parameters):
    """`GET /v1/usage`."""

    model: Name = None
    session: Name = None
    task: Name = None
    since: Day = ""
    until: Day = ""
    by: Annotated[str, Field(max_length=100, examples=["agent,model"])] = "day"
    limit: Limit = 100
    offset: Annotated[int, Field(ge=0, lt=2**31)] = 0

    def query(self, tenant: str, patience_s: float) -> UsageQuery:
        """The question, in a tenant's name.

        Raises:
            Permanent: `invalid_grouping`.
        """
        said = self.model_dump(exclude={"by"})
        return UsageQuery(tenant=tenant, keys=grouping(self.by), patience_s=patience_s, **said)


class SessionsParameters(Parameters):
    """`GET /v1/sessions`."""

    state: SessionState | None = None
    since: Time = 0.0
    limit: Limit = 50
    before: Before = 0

    def query(self, tenant: str, patience_s: float) -> SessionsQuery:
        """The question, in a tenant's name."""
        return SessionsQuery(tenant=tenant, patience_s=patience_s, **self.model_dump())


class Lines(Parameters):
    """What is asked of tasks and of requests alike."""

    session: Name = None
    status: TaskState | None = None
    since: Time = 0.0
    until: Time = 0.0
    limit: Limit = 50
    before: Before = 0


class TasksParameters(Lines):
    """`GET /v1/tasks`."""

    def query(self, tenant: str, patience_s: float) -> TasksQuery:
        """The question, in a tenant's name."""
        return TasksQuery(tenant=tenant, patience_s=patience_s, **self.model_dump())


class RequestsParameters(Lines):
    """`GET /v1/requests`."""

    kind: RequestKind | None = None
    model: Name = None
    min_ms: Annotated[float, Field(ge=0, lt=2**40)] = 0.0
    text: Annotated[str, Field(max_length=200)] = ""

    def query(self, tenant: str, patience_s: float) -> RequestsQuery:
        """The question, in a tenant's name."""
        said = self.model_dump(exclude={"text"})
        text = self.text.replace("\0", "")
        return RequestsQuery(tenant=tenant, patience_s=patience_s, text=text, **said)
