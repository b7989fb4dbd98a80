"""Owns what an engine's cache events add up to: the prefix blocks that it holds.

The engine's own hashes only tell events of one block from those of another; outside, a block has
the name that follows from its tokens. 1.2 does not say under which salt a block lies: two tenants'
equal prompts are one name here, which may cost a detour of work and never shows anybody a token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from services.inference.core.blocks import ROOT, PrefixReport, block_name

Event = Mapping[str, Any]
Place = tuple[int, int]
"""A block: the rank of attention parallelism that has it, and its hash there."""


class HeldBlocks:
    """The blocks of all ranks. `total` is how many the engine has room for, once it has said so."""

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._next: dict[int, int] = {}
        self._names: dict[Place, int] = {}
        self._count: Counter[int] = Counter()
        self._window = 0
        self._epoch = 0
        self._complete = False
        self.total = 0

    def apply(self, event: Event) -> None:
        """Take one event. Numbers that do not follow mean lost events, and a fresh start."""
        rank = int(event.get("attention_dp_rank") or 0)
        number = int(event["event_id"])
        if number != self._next.get(rank, number):
            self.forget()
        self._next[rank] = number + 1
        data = event["data"]
        window = int(event.get("window_size") or 0)
        if data["type"] == "created":
            self._created(data, window)
        elif window >= self._window:  # of several windows only the widest holds whole prefixes
            self._changed(data, rank)

    def forget(self) -> None:
        """What was known is void; what comes from now on is true, but not all there is."""
        self._names.clear()
        self._count.clear()
        self._epoch += 1
        self._complete = False

    def report(self) -> PrefixReport:
        """What is known."""
        return PrefixReport(
            block_tokens=self._block_tokens,
            epoch=self._epoch,
            complete=self._complete,
            blocks=frozenset(self._count),
        )

    def __len__(self) -> int:
        return len(self._names)

    def _created(self, data: Event, window: int) -> None:
        if window >= self._window:
            self._window = window
            self.total = int(data["num_blocks_per_cache_level"][0])
            self._complete = not self._names

    def _changed(self, data: Event, rank: int) -> None:
        if data["type"] == "stored":
            self._stored(data["parent_hash"], data["blocks"], rank)
        elif data["type"] == "removed":
            for found in data["block_hashes"]:
                self._removed((rank, int(found)))

    def _stored(self, parent: int | None, blocks: Sequence[Event], rank: int) -> None:
        """Nothing is said of a block whose beginning is unknown, nor of one that is not full."""
        name = ROOT if parent is None else self._names.get((rank, int(parent)))
        for block in blocks:
            tokens = [int(one["token_id"]) for one in block["tokens"]]
            if name is None or len(tokens) != self._block_tokens:
                return
            name = block_name(name, tokens)
            self._add((rank, int(block["block_hash"])), name)

    def _add(self, place: Place, name: int) -> None:
        self._removed(place)
        self._names[place] = name
        self._count[name] += 1

    def _removed(self, place: Place) -> None:
        name = self._names.pop(place, None)
        if name is not None:
            self._count[name] -= 1
            if not self._count[name]:
                del self._count[name]
