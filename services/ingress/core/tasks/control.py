"""The bodies of control and of schedules, as pydantic models. All of them may be left out but
what is said, and a schedule."""

from __future__ import annotations

from typing import Annotated

import orjson
from pydantic import AwareDatetime, Field

from services.ingress.core.tasks.bodies import AskBody, Body, LimitsBody
from shared.contracts.agents import LimitsPatch
from shared.contracts.schedules import Schedule
from shared.contracts.tasks import TaskSubmitted

By = Annotated[str, Field(max_length=200, description="in whose name")]
Note = Annotated[str, Field(max_length=2000, description="why; it stands in the log")]
StepNumber = Annotated[
    int | None, Field(ge=0, description="the step that waits; not needed where only one does")
]


class SteerBody(Body):
    """`POST /v1/tasks/{id}/steer`."""

    text: str = Field(min_length=1, max_length=65_536)
    by: By = ""


class ApproveBody(Body):
    """`POST /v1/tasks/{id}/approve`."""

    step: StepNumber = None
    arguments: dict[str, object] | None = Field(
        default=None, description="in the place of what the model wrote"
    )
    result: str | None = Field(
        default=None, description="what the tool returned; it is not run then"
    )
    limits: LimitsBody | None = Field(
        default=None, description="new bounds of a task that waits for its budget"
    )
    by: By = ""
    note: Note = ""

    def as_arguments(self) -> str | None:
        """The arguments as a model would have written them."""
        return None if self.arguments is None else orjson.dumps(self.arguments).decode()


class RejectBody(Body):
    """`POST /v1/tasks/{id}/reject`."""

    step: StepNumber = None
    by: By = ""
    note: Note = ""


class RetryBody(Body):
    """`POST /v1/tasks/{id}/retry`."""

    by: By = ""


class ScheduleBody(AskBody):
    """`PUT /v1/schedules/{name}`: a task, and exactly one of `at`, `every_s` and `cron`."""

    at: Annotated[AwareDatetime, Field(strict=False)] | None = Field(
        default=None, examples=["2026-12-24T18:00:00Z"]
    )
    every_s: int | None = Field(default=None, ge=1, description="seconds")
    cron: str = Field(default="", max_length=200, examples=["0 8 * * MON-FRI", "@daily"])
    zone: str = Field(default="", max_length=64, description="of cron; UTC by default")

    def as_schedule(self) -> Schedule:
        """The schedule as it is stored."""
        task = TaskSubmitted(
            input=self.as_input(),
            limits=self.limits.as_patch() if self.limits else LimitsPatch(),
            metadata=self.metadata,
            on_busy=self.on_busy,
            priority=self.priority,
        )
        return Schedule(
            agent=self.agent,
            task=task,
            session=self.session or "",
            at=self.at.timestamp() if self.at else None,
            every_s=self.every_s,
            cron=self.cron,
            zone=self.zone,
        )
