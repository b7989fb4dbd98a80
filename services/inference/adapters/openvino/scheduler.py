"""Owns which tokens go into the next step: in-flight batching, chunked prefill, preemption.

Must not know tensors, threads, sampling or time: pure bookkeeping over sequences and blocks.
Who decodes goes first, then unfinished prompts, then new ones, up to `batch_tokens` a step. When
blocks run out the youngest sequence gives up its own and waits at the front; its tokens are kept
and computed again. The oldest can therefore always go on, and nothing starves.

Work in batches gives way: others are begun before it, and it is the first to give up its blocks.
It does so once, and lets a bounded number pass; from then on it counts as anybody's.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from services.inference.adapters.openvino.blocks import BlockPool, chain_key, chain_start
from services.inference.core.blocks import ROOT, block_name
from services.inference.ports import Keep

PATIENCE = 16
"""How many are begun before one that nobody waits for, while it could be begun itself."""


class SchedulerStuck(RuntimeError):
    """There is work and none of it can go on: a bug, since admission checks that it fits."""


class Sequence:
    """The tokens of one request and the blocks that hold their keys and values."""

    __slots__ = (
        *("blocks", "cached", "chain", "computed", "ids", "keep", "lineage"),
        *("names", "patience", "published", "salt", "ticket"),
    )

    def __init__(
        self,
        prompt: tuple[int, ...],
        salt: str = "",
        keep: Keep = "usual",
        lineage: str = "",
        *,
        patient: bool = False,
    ) -> None:
        """`patient` is work that nobody waits for; see the port for `keep` and `lineage`."""
        self.ids = list(prompt)
        self.salt = chain_start(salt)
        self.keep: Keep = keep
        self.lineage = lineage
        self.patience = PATIENCE if patient else 0
        self.computed = 0
        self.published = 0
        self.cached: int | None = None
        self.blocks: list[int] = []
        self.chain: list[bytes] = []
        self.names: list[int] = []
        self.ticket = 0

    @property
    def remaining(self) -> int:
        """Tokens whose keys and values are not computed yet."""
        return len(self.ids) - self.computed


class Slice(NamedTuple):
    """The tokens `start .. start + length` of one sequence, to be computed in this step."""

    sequence: Sequence
    start: int
    length: int

    @property
    def samples(self) -> bool:
        """Whether the step reaches the end, so that the next token can be chosen."""
        return self.start + self.length == len(self.sequence.ids)


class Scheduler:
    """Running and waiting sequences over one block pool."""

    def __init__(
        self,
        pool: BlockPool,
        block_tokens: int,
        max_sequences: int,
        batch_tokens: int,
        prefix_cache: bool = True,
    ) -> None:
        self.running: list[Sequence] = []
        self.waiting: deque[Sequence] = deque()
        self._pool = pool
        self._block_tokens = block_tokens
        self._max_sequences = max_sequences
        self._batch_tokens = batch_tokens
        self._prefix_cache = prefix_cache
        self._tickets = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence that fits the pool when alone."""
        self._tickets += 1
        sequence.ticket = self._tickets
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, finished or not, and free its place and blocks."""
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        self._release(sequence)

    def plan(self) -> list[Slice]:
        """What to compute next; empty only when there is nothing to do."""
        planned: dict[Sequence, int] = {}
        preempted = self._continue_running(planned)
        if not preempted:
            self._admit(planned, self._batch_tokens - sum(planned.values()))
        if not planned and (self.running or self.waiting):
            raise SchedulerStuck(f"{len(self.running)} running, {len(self.waiting)} waiting")
        return [Slice(sequence, sequence.computed, count) for sequence, count in planned.items()]

    def commit(self, slices: list[Slice]) -> None:
        """The step succeeded: the slices are computed, and their full blocks may be shared."""
        for sequence, start, length in slices:
            sequence.computed = start + length
            if self._prefix_cache:
                self._publish(sequence)

    def _continue_running(self, planned: dict[Sequence, int]) -> bool:
        """Plan the running ones; returns whether one of them had to give up its blocks."""
        before = len(self.running)
        budget = self._batch_tokens
        for sequence in sorted(self.running, key=lambda s: (s.remaining > 1, s.ticket)):
            if sequence not in self.running:
                continue  # preempted for one before it
            count = min(sequence.remaining, budget)
            if count > 0 and self._make_room(sequence, count, planned):
                planned[sequence] = count
                budget -= count
        return len(self.running) < before

    def _make_room(self, sequence: Sequence, count: int, planned: dict[Sequence, int]) -> bool:
        while not self._grow(sequence, sequence.computed + count):
            youngest = max(self.running, key=lambda s: (s.patience > 0, s.ticket))
            if youngest is sequence:
                return False
            planned.pop(youngest, None)
            self.running.remove(youngest)
            self._release(youngest)
            youngest.patience = 0
            self.waiting.appendleft(youngest)
        return True

    def _admit(self, planned: dict[Sequence, int], budget: int) -> None:
        while self.waiting and budget > 0 and len(self.running) < self._max_sequences:
            sequence = self._next()
            self._reuse_prefix(sequence)
            missing = self._blocks_for(len(sequence.ids)) - len(sequence.blocks)
            count = min(sequence.remaining, budget)
            if missing > self._pool.available:
                self._release(sequence)
                return
            self._grow(sequence, sequence.computed + count)
            if sequence.cached is None:
                sequence.cached = sequence.computed
            self.waiting.remove(sequence)
            self.running.append(sequence)
            planned[sequence] = count
            budget -= count
            if self.waiting and self.waiting[0].ticket < sequence.ticket:
                self.waiting[0].patience = max(0, self.waiting[0].patience - 1)

    def _next(self) -> Sequence:
        """The first that waits; before one that can wait longer the first that cannot."""
        first = self.waiting[0]
        if not first.patience:
            return first
        return next((one for one in self.waiting if not one.patience), first)

    def _reuse_prefix(self, sequence: Sequence) -> None:
        """Hold the cached blocks of the longest known prefix, leaving one token to compute."""
        if not self._prefix_cache:
            return
        for index in range((len(sequence.ids) - 1) // self._block_tokens):
            block = self._pool.share(self._key(sequence, index), sequence.lineage)
            if block is None:
                break
            sequence.blocks.append(block)
        sequence.published = len(sequence.blocks)
        sequence.computed = sequence.published * self._block_tokens

    def _publish(self, sequence: Sequence) -> None:
        while (sequence.published + 1) * self._block_tokens <= sequence.computed:
            index = sequence.published
            key, name = self._key(sequence, index), self._name(sequence, index)
            self._pool.publish(sequence.blocks[index], key, name, sequence.lineage)
            sequence.published += 1

    def _key(self, sequence: Sequence, index: int) -> bytes:
        """Name of the sequence's block `index`; tokens are only appended, so names stay true."""
        while len(sequence.chain) <= index:
            first = len(sequence.chain) * self._block_tokens
            previous = sequence.chain[-1] if sequence.chain else sequence.salt
            ids = sequence.ids[first : first + self._block_tokens]
            sequence.chain.append(chain_key(previous, ids))
        return sequence.chain[index]

    def _name(self, sequence: Sequence, index: int) -> int:
        """As `_key`, without the salt: what the block is called outside."""
        while len(sequence.names) <= index:
            first = len(sequence.names) * self._block_tokens
            previous = sequence.names[-1] if sequence.names else ROOT
            ids = sequence.ids[first : first + self._block_tokens]
            sequence.names.append(block_name(previous, ids))
        return sequence.names[index]

    def _grow(self, sequence: Sequence, tokens: int) -> bool:
        while len(sequence.blocks) < self._blocks_for(tokens):
            block = self._pool.take()
            if block is None:
                return False
            sequence.blocks.append(block)
        return True

    def _release(self, sequence: Sequence) -> None:
        """Last block first, so that the end of a prefix is forgotten before its beginning."""
        for block in reversed(sequence.blocks):
            self._pool.release(block, sequence.keep)
        sequence.blocks.clear()
        sequence.computed = sequence.published = 0

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self._block_tokens)
