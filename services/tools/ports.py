"""What the tools service needs from outside, with what each part guarantees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from shared.contracts.base import SessionRef
from shared.contracts.facts import ToolStarted
from shared.contracts.retrieval import Passage, SearchRequest


class Knowledge(Protocol):
    """The passages of a tenant's documents.

    Raises:
        Transient: `search_unavailable`: retrieval is down, slow or not ready.
        Permanent: the question itself was refused.
    """

    async def search(self, request: SearchRequest) -> Sequence[Passage]:
        """The best passages that reach the request's score, best first."""
        ...


class Promises(Protocol):
    """The promise that a tool with side effects may have happened."""

    async def begin(self, fact: ToolStarted, ref: SessionRef) -> bool:
        """Write down that this execution begins; durable when it returns.

        False where another execution of this attempt has begun already: then this one must not.
        Repeating it for the same execution gives the same answer.

        Raises:
            Transient: the log cannot be reached.
        """
        ...


class Memory(Protocol):
    """Notes of one session. Guarantees: sessions and tenants are apart; the last write wins;
    writing the same again changes nothing; notes survive restarts.

    Raises:
        Transient: `storage_unavailable`.
    """

    async def put(self, ref: SessionRef, key: str, value: str) -> None:
        """Keep a value; durable when this returns."""
        ...

    async def get(self, ref: SessionRef, key: str) -> str | None:
        """The value, or None."""
        ...
