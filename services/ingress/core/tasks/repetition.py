"""What an idempotency key stands for: the same words again, or others that borrow its name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from pydantic import BaseModel

from shared.contracts.facts import Noted, Steered
from shared.contracts.log import StoredFact
from shared.contracts.tasks import TaskSubmitted, check_repeated
from shared.errors import Permanent

_DELIVERY = {"stream", "stream_options", "background", "idempotency_key", "by"}
"""How an answer comes, who asks, and the key itself: not a part of what is asked."""


def fingerprint_of(body: BaseModel, *where: str | None) -> str:
    """The same for two requests that ask for the same; null is as absent.

    What is not said does not count, so that a default of a later release changes nothing. The kind
    of the body does: a key of one path is no key of another. `where` is what the path or a header
    says beside the body: a session, a task.
    """
    said = body.model_dump(exclude_unset=True, exclude_none=True, exclude=_DELIVERY)
    named = [name for name in where if name is not None]
    words = json.dumps([type(body).__name__, *named, said], sort_keys=True, default=str)
    return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()


def check_same_request(known: str, fingerprint: str) -> None:
    """Refuse a key that stands for another request already, in this session or in another.

    Raises:
        Permanent: `idempotency_conflict`.
    """
    if known != fingerprint:
        raise _conflict("the key stands for another request")


def check_same_task(facts: Iterable[StoredFact], fingerprint: str) -> None:
    """Refuse a key whose task was asked for with another body.

    Raises:
        Permanent: `idempotency_conflict`.
    """
    for stored in facts:
        if isinstance(stored.fact, TaskSubmitted):
            check_repeated(stored.fact, fingerprint)
            return


def check_same_retry(facts: Iterable[StoredFact], retried: str) -> None:
    """Refuse a key that names anything but the retry of this task; who asks is no difference.

    Raises:
        Permanent: `idempotency_conflict`.
    """
    for stored in facts:
        if isinstance(stored.fact, TaskSubmitted) and stored.fact.retry_of != retried:
            raise _conflict("the key names another task")


def check_same_words(facts: Iterable[StoredFact], seq: int, text: str) -> None:
    """Refuse a key with which something else has been said to the task.

    Raises:
        Permanent: `idempotency_conflict`.
    """
    for stored in facts:
        if stored.seq == seq and isinstance(stored.fact, Steered) and stored.fact.text != text:
            raise _conflict("other words were said with the key")


def check_same_note(facts: Iterable[StoredFact], note: Noted) -> None:
    """Refuse a key with which something else has been set down in the conversation.

    Raises:
        Permanent: `idempotency_conflict`.
    """
    for stored in facts:
        known = stored.fact
        if not isinstance(known, Noted) or known.note != note.note:
            continue
        if (known.messages, known.metadata) != (note.messages, note.metadata):
            raise _conflict("something else was set down with the key")


def _conflict(why: str) -> Permanent:
    return Permanent(
        "idempotency_conflict", f"{why}: take a new one for a new request", field="idempotency_key"
    )
