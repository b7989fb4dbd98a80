"""Dead letters: messages that nobody could process, with what went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from shared.contracts.base import Message
from shared.errors import Failure


class Try(Message, frozen=True):
    """A delivery that failed; `time` in epoch seconds."""

    delivery: int
    time: float
    error: Failure


class DeadLetter(Message, frozen=True):
    """The original message, its last error and what is known of the tries before it.

    `tries` holds what the process that buried the message saw itself: a delivery that is missing
    there went to another process, or ended with its own.
    """

    subject: str
    consumer: str
    error: Failure
    deliveries: int
    body: str
    """The original body, as text where it is UTF-8, else as `base64:` data."""
    stream: str = ""
    sequence: int = 0
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    time: float = 0.0
    """When the original was stored (epoch seconds)."""
    tries: tuple[Try, ...] = ()
    original: Literal["whole", "cut", "gone"] = "whole"
    """Whether `body` is all of it, its beginning, or nothing (only the server told of it)."""


class Retried(Message, frozen=True):
    """A letter was sent again: where its message stands now. The first one counts."""

    stream: str
    sequence: int
    by: str = ""
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class Filed:
    """A letter in DEAD: `id` is its sequence there, `time` when it was written.

    `tenant` is `_` where nobody can tell whose it is, `session` is empty where it has none.
    """

    id: int
    time: float
    tenant: str
    session: str
    letter: DeadLetter
    retried: Retried | None = None


@dataclass(frozen=True, slots=True)
class Letters:
    """A page; `next` is the `after` of the page behind it, None at the end."""

    letters: tuple[Filed, ...]
    next: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters; an empty string stands for all."""

    session: str = ""
    consumer: str = ""
    code: str = ""
