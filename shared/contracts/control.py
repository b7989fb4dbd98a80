"""Control: `control.<tenant>.<session>.<verb>`, request/reply, answered with a sequence.

Each verb has one message. The answer comes when the fact that records the request is durable.
"""

from __future__ import annotations

import msgspec

from shared.contracts.agents import LimitsPatch
from shared.contracts.base import Message
from shared.contracts.tasks import InputMessage, Terms
from shared.errors import Failure


class CancelTask(Message, frozen=True):
    """`...cancel`: stop a task that is queued or running."""

    task: str
    by: str = ""
    reason: str = ""


class SteerTask(Message, frozen=True):
    """`...steer`: say something to a running task. The same `id` is said once."""

    task: str
    text: str
    id: str
    by: str = ""


class ApproveStep(Message, frozen=True):
    """`...approve`: let a parked step go on; see `facts.Approved`."""

    task: str
    step: int
    by: str = ""
    note: str = ""
    arguments: str | None = None
    result: str | None = None
    limits: LimitsPatch | None = None


class RejectStep(Message, frozen=True):
    """`...reject`: a parked step must not go on."""

    task: str
    step: int
    by: str = ""
    note: str = ""


class GiveResult(Message, frozen=True):
    """`...result`: what a client's tool returned for a call. The first result of a call counts.

    Said again it is answered with the sequence of the first one, whatever it says.
    """

    task: str
    call: str
    result: str
    by: str = ""
    terms: Terms | None = None
    """What the client wants from here on; absent: what it wanted before."""


class RetryTask(Message, frozen=True):
    """`...retry`: a new task, named `retry`, that goes on where the failed one stopped."""

    task: str
    retry: str
    by: str = ""
    key: str = ""
    """The id of the API key that pays for it."""


class ForkSession(Message, frozen=True):
    """`...fork`: a new session, named `session`, that goes on from a step; see `facts.Forked`.

    Without `task` it is the last task of the session that started.
    """

    session: str
    step: int
    task: str = ""
    route: str = ""
    input: str | None = None
    results: dict[str, str] = msgspec.field(default_factory=dict)
    by: str = ""
    key: str = ""
    """The id of the API key that pays for it."""


class NoteSession(Message, frozen=True):
    """`...note`: set something down in a session that is idle, see `facts.Noted`; once per `note`.

    It makes the session where there is none. Metadata alone can be set at any time.
    """

    note: str
    messages: tuple[InputMessage, ...] = ()
    hidden: tuple[str, ...] = ()
    metadata: dict[str, str] | None = None
    by: str = ""


class DeleteSession(Message, frozen=True):
    """`...delete`: forget the session. Tasks that have not ended are cancelled first with `force`,
    without it they are a reason to refuse."""

    force: bool = False
    by: str = ""


class DeleteReply(Message, frozen=True):
    """`sequence` of the fact that records the deletion, or why it was refused.

    With `complete` nothing is left anywhere; without it the rest goes on by itself.
    """

    sequence: int = 0
    complete: bool = False
    error: Failure | None = None


class ControlReply(Message, frozen=True):
    """`sequence` of the fact that records the request, or why it was refused."""

    sequence: int = 0
    error: Failure | None = None
