"""A fact as it stands in the log: body, place, time and address."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec

from shared.contracts import facts as f
from shared.contracts.base import TOKEN, Message, SessionRef, as_token, check_token, decode
from shared.contracts.tasks import TaskSubmitted
from shared.contracts.tokens import TokenDelta
from shared.errors import Failure, Permanent
from shared.subjects import (
    BY_TOKEN,
    FactKind,
    RunAddress,
    check_session,
    origin_sequence,
    parse_run,
    site_of,
)

MSG_ID, TASK_HEADER, ATTEMPT_HEADER = "Nats-Msg-Id", "Millrace-Task", "Millrace-Attempt"
KEY_HEADER = "Millrace-Key"
"""The id of the API key that a task came with, if any."""
_TRACE = re.compile(
    r"(?:00(?=.{53}$)|(?!00|ff)[0-9a-f]{2})"
    r"-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)
"""As `shared.trace.context_of` reads it."""


class Malformed(Message, frozen=True):
    """Stands in the place of a body that could not be read."""

    error: Failure


@dataclass(frozen=True, slots=True)
class StoredFact:
    """`seq` is the sequence in RUNS, `time` the server's time of storage (epoch seconds)."""

    seq: int
    time: float
    ref: SessionRef
    kind: str
    rest: str
    task: str
    fact: f.Fact | Malformed
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def trace_id(self) -> str:
        """The W3C trace id of the `traceparent` header, or an empty string."""
        found = _TRACE.fullmatch(self.headers.get("traceparent", ""))
        return found.group(1) if found else ""


@dataclass(frozen=True, slots=True)
class Event:
    """What a viewer sees: a fact, or a token delta.

    `id` is the cursor: a place in the log (architecture, "One cursor"), valid at every
    replica. `kind` is the fact's token or `delta`.
    """

    id: str
    kind: str
    time: float
    task: str
    data: f.Fact | Malformed | TokenDelta


def task_id_of(seq: int, headers: dict[str, str]) -> str:
    """The id of a submitted task: the one that it names, else its message id, else `t<sequence>`.

    Clients of ours name it, because message ids are shared by all sessions: the task of one tenant
    must not be taken for the repetition of another's.
    """
    given = headers.get(TASK_HEADER, "") or headers.get(MSG_ID, "")
    if not given:
        return f"t{seq}"
    return given if TOKEN.fullmatch(given) else as_token(given)


def read_fact(
    subject: str,
    body: bytes | Failure,
    seq: int,
    time: float,
    headers: dict[str, str],
) -> StoredFact | None:
    """The fact in a message of RUNS; None for a kind that this release does not know.

    A body that cannot be read, or could not be had, becomes `Malformed`: it must not stop the
    reader.

    Raises:
        Permanent: `invalid_subject`.
    """
    address = parse_run(subject)
    kind = BY_TOKEN.get(address.kind)
    if kind is None:
        return None
    fact = Malformed(error=body) if isinstance(body, Failure) else _decoded(body, kind)
    copied = site_of(subject)
    if kind.type is TaskSubmitted:
        origin = origin_sequence(headers) if copied else None
        task = task_id_of(origin or seq, headers)
        fact = _misplaced(address) or fact
    else:
        task = getattr(fact, "task", "") or headers.get(TASK_HEADER, "")
        if copied and isinstance(fact, f.Deleted):
            fact = msgspec.structs.replace(fact, upto=seq - 1)  # the copies that came before it
    return StoredFact(seq, time, address.ref, kind.token, address.rest, task, fact, headers)


def _decoded(body: bytes, kind: FactKind) -> f.Fact | Malformed:
    try:
        fact: f.Fact = decode(body, kind.type)  # type: ignore[assignment]  # the table holds facts
    except Permanent as error:
        return Malformed(error=error.as_failure())
    return fact


def _misplaced(address: RunAddress) -> Malformed | None:
    """A task under a name that a client may not use: anybody can publish to any subject."""
    try:
        for value, field_ in ((address.ref.tenant, "tenant"), (address.rest, "agent")):
            check_token(value, field_)
        check_session(address.ref.session)
    except Permanent as error:
        return Malformed(error=error.as_failure())
    return None


def decode_fact(kind: str, body: dict[str, object]) -> f.Fact | Malformed:
    """The fact of a kind from its JSON object."""
    try:
        fact: f.Fact = msgspec.convert(body, BY_TOKEN[kind].type)  # type: ignore[assignment]
    except (KeyError, msgspec.ValidationError) as error:
        return Malformed(error=Failure(code="invalid_message", detail=f"{kind}: {error}"))
    return fact
