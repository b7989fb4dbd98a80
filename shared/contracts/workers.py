"""What a worker says about itself in KV `workers`; the router's view of the world."""

from __future__ import annotations

from shared.contracts.base import Message


class WorkerState(Message, frozen=True):
    """One inference process. The entry expires unless it is renewed."""

    worker: str
    model: str
    engine: str
    slots: int
    running: int = 0
    waiting: int = 0
    context: int = 0
    started: float = 0.0
