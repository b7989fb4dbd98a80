"""Dead letters: messages that nobody could process, with what went wrong."""

from __future__ import annotations

import msgspec

from shared.contracts.base import Message
from shared.errors import Failure


class DeadLetter(Message, frozen=True):
    """`dead.<consumer>`: the original message and its last error."""

    subject: str
    consumer: str
    error: Failure
    deliveries: int
    body: str
    """The original body, as text where it is UTF-8, else as `base64:` data."""
    stream: str = ""
    sequence: int = 0
    headers: dict[str, str] = msgspec.field(default_factory=dict)
