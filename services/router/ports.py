"""What the router needs from outside."""

from __future__ import annotations

from typing import Protocol

from shared.contracts.workers import WorkerState


class Rescue(Protocol):
    """Brings back what waits for a worker that is gone."""

    async def rescue(self, worker: WorkerState) -> int:
        """Route the worker's waiting jobs anew; answers how many. Safe to repeat.

        Raises:
            Transient: the bus cannot be reached; try again.
        """
        ...
