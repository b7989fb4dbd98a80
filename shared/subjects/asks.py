"""The questions of a tenant's own clients, and which subjects of its own it may read."""

from __future__ import annotations

import re

from shared.contracts.base import check_token
from shared.errors import Permanent
from shared.subjects.addresses import BLOBS, DOCS, RUNS, TOKENS

ASKED_OF_SESSIONS = ("read", "last", "latest", "at", "piece", "place", "sessions")
ASKED_OF_RETRIEVAL = ("search",)
_READABLE = {"run": (RUNS, 2), "tokens": (TOKENS, 1), "docs": (DOCS, 1), "blob": (BLOBS, 1)}
"""First token of a subject -> the stream that holds it, and which token names the tenant."""
_TOKEN = re.compile(r"\*|[^\s.*>]+")
_LONGEST = 512


def ask_subject(tenant: str, what: str) -> str:
    """A question of a tenant's client."""
    return f"ask.{check_token(tenant, 'tenant')}.{what}"


def ask_filter(what: str) -> str:
    """A question, whoever asks it."""
    return f"ask.*.{what}"


def asker_of(subject: str) -> str:
    """The tenant of `ask.<tenant>.<what>`: the server lets nobody else publish there.

    Raises:
        Permanent: `invalid_name`.
    """
    return check_token(subject.split(".")[1], "tenant")


def stream_for(tenant: str, subject: str) -> str:
    """The stream that holds a subject, wildcards allowed, if all of it is the tenant's.

    Raises:
        Permanent: `invalid_subject`.
    """
    tokens = subject.split(".")
    stream, place = _READABLE.get(tokens[0], ("", 0))
    last = tokens.pop() if tokens[-1] == ">" else ""
    sound = len(subject) <= _LONGEST and all(map(_TOKEN.fullmatch, tokens))
    if (
        not stream
        or not sound
        or tokens[place : place + 1] != [tenant]
        or not (last or len(tokens) > place + 1)
    ):
        raise Permanent(
            "invalid_subject",
            f"{subject[:80]!r} is nothing to read: ask for run.*.{tenant}.<session>.>, "
            f"tokens.{tenant}.>, docs.{tenant}.> or blob.{tenant}.>",
            field="subject",
        )
    return stream
