"""What the session loop needs from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from services.sessions.core.decide import Action
from services.sessions.core.state import SessionState
from shared.contracts.agents import AgentSpec
from shared.contracts.base import SessionRef
from shared.contracts.log import StoredFact
from shared.contracts.tasks import TaskSubmitted


class FactReader(Protocol):
    """The log of facts, to be read."""

    async def read(self, ref: SessionRef, after: int = 0) -> Sequence[StoredFact]:
        """All facts of a session with a sequence above `after`, in order, none missing.

        Raises:
            Transient: the log cannot be reached.
        """
        ...

    async def first(self, ref: SessionRef) -> StoredFact | None:
        """The first fact of the session's own, not of what a fork took over; None without any.

        Raises:
            Transient: the log cannot be reached.
        """
        ...


class FactLog(FactReader, Protocol):
    """The log of facts, and the states that were kept of it."""

    async def load(self, ref: SessionRef) -> tuple[SessionState, Sequence[StoredFact]]:
        """The state that was kept of a session last (or an empty one), and all facts since.

        Raises:
            Transient: the log cannot be reached.
        """
        ...

    async def save(self, state: SessionState) -> None:
        """Keep this state, so that loading need not begin with the first fact.

        Raises:
            Transient: the log cannot be reached.
            Permanent: the state is too large to be kept.
        """
        ...

    async def forget(self, ref: SessionRef) -> None:
        """Drop the state that was kept of a session.

        Raises:
            Transient: the log cannot be reached.
        """
        ...


class Effects(Protocol):
    """Performs what was decided."""

    async def perform(self, ref: SessionRef, action: Action) -> int:
        """Durable when it returns; performing an action twice has one effect.

        Answers the sequence of the fact for an `Append`, else 0.

        Raises:
            Transient: the bus cannot be reached; perform it again later.
            Permanent: the action cannot succeed (a fact above the bus limit).
        """
        ...

    async def submit(
        self, ref: SessionRef, agent: str, task: str, body: TaskSubmitted, key: str = ""
    ) -> int:
        """Submit a task to a session, as a client would; answers the sequence of its fact.

        `key` is the id of the API key that pays for it.

        Raises:
            Transient: the bus cannot be reached.
        """
        ...


class AgentCatalog(Protocol):
    """The agent definitions of all tenants, kept up to date."""

    def of(self, tenant: str) -> Mapping[str, tuple[int, AgentSpec]]:
        """Name -> (revision, definition) for a tenant: the shared agents under its own."""
        ...
