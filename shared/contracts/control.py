"""Control: `control.<tenant>.<session>.<verb>`, request/reply, answered with a sequence."""

from __future__ import annotations

from shared.contracts.base import Message
from shared.errors import Failure


class CancelTask(Message, frozen=True):
    """`...cancel`: stop a task that is queued or running."""

    task: str
    by: str = ""
    reason: str = ""


class ControlReply(Message, frozen=True):
    """`sequence` of the fact that records the request, or why it was refused."""

    sequence: int = 0
    error: Failure | None = None
