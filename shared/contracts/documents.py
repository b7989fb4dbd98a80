"""Documents: stream DOCS is what the vector index is rebuilt from."""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.contracts.base import Message


class DocumentChanged(Message, frozen=True):
    """`docs.<tenant>.<collection>.<document>`: the newest version, or the marker of a deletion."""

    document: str
    """The id as the client gave it; the subject holds it as a token."""
    text: str = ""
    op: Literal["put", "delete"] = "put"
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
