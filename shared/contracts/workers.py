"""What a worker says about itself in KV `workers`; the router's view of the world."""

from __future__ import annotations

from collections.abc import Iterable

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
    out: str = ""
    """Why it has no slots, where its endpoint is to blame."""
    blocks: int = 0
    """Of the KV cache; `blocks_free` hold nothing, `blocks_cached` what may be used again."""
    blocks_free: int = 0
    blocks_cached: int = 0
    prefixes_broken: int = 0
    """Prompts that did not begin with the last one of their session, so that no cache helped."""
    abilities: tuple[str, ...] | None = None
    """Of what not every engine can do (`shared.contracts.needs`); None: it does not say."""
    dimensions: int = 0
    """Numbers in a vector of an embedding model, where that is known."""

    def can(self, needs: Iterable[str]) -> bool:
        """Whether it can do all of this, as far as it says."""
        return self.abilities is None or all(one in self.abilities for one in needs)
