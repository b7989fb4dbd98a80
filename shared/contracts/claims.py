"""What stands in the place of a body that is too large for a message (the claim check pattern)."""

from __future__ import annotations

from typing import Annotated

import msgspec

from shared.contracts.base import Message
from shared.contracts.work import Target


class Claim(Message, frozen=True):
    """Where the body lies: `parts` messages of stream BLOBS under `key`, `size` bytes in all.

    `digest` is the BLAKE2b hash of the whole (20 bytes, hexadecimal). Whose it is does not stand
    here: that follows from the message, so that a claim cannot name what belongs to others.
    """

    key: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
    digest: str
    size: Annotated[int, msgspec.Meta(ge=0)]
    parts: Annotated[int, msgspec.Meta(ge=1, le=4096)]


class Claimed(Message, frozen=True):
    """The body of a message with the header `Millrace-Claim`.

    That of a document still names it, so that a list of documents need not read them.
    """

    claim: Claim
    document: str | None = None


class ClaimedRequest(Message, frozen=True):
    """A `DirectRequest` whose conversation lies elsewhere: what has to be known to place it."""

    id: str
    tenant: str
    model: str
    claim: Claim
    target: Target | None = None
    needs: dict[str, str] = msgspec.field(default_factory=dict)
