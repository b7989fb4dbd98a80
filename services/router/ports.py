"""What the router needs from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from shared.contracts.workers import WorkerState


class Completion(Protocol):
    """What is known of a stateless completion when it is placed."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def tenant(self) -> str:
        """Whose it is."""
        ...

    @property
    def model(self) -> str:
        """A route, or a model."""
        ...

    @property
    def needs(self) -> Mapping[str, str]:
        """Ability -> the field that asks for it."""
        ...


class Rescue(Protocol):
    """Brings back what waits for a worker that is gone."""

    async def rescue(self, worker: WorkerState) -> int:
        """Route the worker's waiting jobs anew; answers how many. Safe to repeat.

        Raises:
            Transient: the bus cannot be reached; try again.
        """
        ...
