"""What a tenant's own NATS client asks: `ask.<tenant>.<what>`, request/reply.

The tenant is the one of the subject; no body names one. An answer is one message of bounded size: a
page says where the next one begins, and a body that does not fit is fetched in pieces. Every answer
may be `{"error": ...}` instead.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from shared.contracts.base import Message
from shared.errors import Failure

MOST_AT_ONCE, MOST_NAMES = 250, 5000
"""Messages, and names, in one answer."""
Limit = Annotated[int, msgspec.Meta(ge=1, le=MOST_AT_ONCE)]
Sequence = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]


class ReadStored(Message, frozen=True):
    """`...read`: what is stored on a subject behind a sequence, in order; wildcards are allowed.

    `run.*.<tenant>.<session>.>` are the facts of a session: read to the end what this finds and
    listen on the same subject, and the sequences of both join without a gap.
    """

    subject: str
    after: Sequence = 0
    limit: Limit = 100


class LastStored(Message, frozen=True):
    """`...last`: the newest message of all that a subject covers, or none."""

    subject: str


class LatestStored(Message, frozen=True):
    """`...latest`: the newest message of each subject of RUNS that is covered, by sequence.

    With `upto` as it was at that sequence. Where they are many, the oldest are left out.
    """

    subjects: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=16)]
    upto: Sequence = 0


class StoredAt(Message, frozen=True):
    """`...at`: the message of RUNS at a sequence, or none; another tenant's is none."""

    sequence: Sequence


class StoredPiece(Message, frozen=True):
    """`...piece`: the bytes of a body from `start` on, as many as fit."""

    subject: str
    """Of the message, as the page said it."""
    sequence: Sequence
    start: Sequence = 0


class CheckPlace(Message, frozen=True):
    """`...place`: whether a sequence is a place in a session, so that one can go on from it."""

    session: str
    sequence: Sequence


class ListSessions(Message, frozen=True):
    """`...sessions`: the names of the tenant's sessions behind a name, sorted."""

    after: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_NAMES)] = MOST_NAMES


class SearchDocuments(Message, frozen=True):
    """`...search`: passages of the tenant's documents; see `retrieval.SearchRequest`."""

    query: str
    collection: str = "default"
    limit: int = 3
    min_score: float = 0.0
    min_seq: int = 0
    highlight: bool = False


class StoredMessage(Message, frozen=True):
    """A message where it is stored. The body is `text`, or `raw` (base64) where it is no Unicode;

    with neither and a `size` it is to be asked for in pieces.
    """

    subject: str
    sequence: int
    time: str
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    size: int = 0
    """Bytes of the body."""
    text: str = ""
    raw: bytes = b""

    @property
    def body(self) -> bytes:
        """The bytes that came along."""
        return self.raw or self.text.encode()


class StoredPage(Message, frozen=True):
    """`next` is the `after` of the page behind it; absent: this was all."""

    messages: tuple[StoredMessage, ...] = ()
    next: int | None = None
    error: Failure | None = None


class PieceReply(Message, frozen=True):
    """A piece (base64) of a body of `size` bytes."""

    data: bytes = b""
    size: int = 0
    error: Failure | None = None


class SessionsPage(Message, frozen=True):
    """`next` is the `after` of the page behind it; absent: this was all."""

    sessions: tuple[str, ...] = ()
    next: str | None = None
    error: Failure | None = None


class Answered(Message, frozen=True):
    """Yes; or why not. A refusal of any question has this form."""

    error: Failure | None = None
