"""Owns the blocks of the paged KV cache: who holds them and which hold a known prefix.

Must not know requests, tensors or time. Every block is in exactly one state: free, held by one or
more sequences, or cached (held by none, its content known; the least recently used goes first).
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict, deque
from collections.abc import Sequence


def chain_start(salt: str) -> bytes:
    """Where a chain begins; hashed, so that no salt can imitate the name of a block."""
    return hashlib.blake2b(salt.encode(), digest_size=16).digest()


def chain_key(previous: bytes, token_ids: Sequence[int]) -> bytes:
    """Name of a full block: of its tokens and all before them, from the salt at the start."""
    return hashlib.blake2b(previous + array("i", token_ids).tobytes(), digest_size=16).digest()


class BlockPool:
    """A fixed number of blocks with reference counts and a prefix cache."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = deque(range(total))
        self._holders = [0] * total
        self._block_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        self._name_of: dict[int, int] = {}
        self.changes = 0
        """How often a name was added or went."""
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def free(self) -> int:
        """Blocks nobody holds and whose content is unknown."""
        return len(self._free)

    @property
    def cached(self) -> int:
        """Blocks nobody holds whose content may be used again."""
        return len(self._idle)

    @property
    def names(self) -> frozenset[int]:
        """The names (`core.blocks`) of all blocks whose content may be shared."""
        return frozenset(self._name_of.values())

    @property
    def available(self) -> int:
        """Blocks that `take` can still give."""
        return len(self._free) + len(self._idle)

    def take(self) -> int | None:
        """Give a block to one holder, forgetting the oldest cached prefix if need be."""
        if self._free:
            block = self._free.popleft()
        elif self._idle:
            block, _ = self._idle.popitem(last=False)
            del self._block_of[self._key_of.pop(block)]
            del self._name_of[block]
            self.changes += 1
        else:
            return None
        self._holders[block] = 1
        return block

    def share(self, key: bytes) -> int | None:
        """Give one more holder to the block with that content, if there is one."""
        block = self._block_of.get(key)
        if block is None:
            return None
        self._idle.pop(block, None)
        self._holders[block] += 1
        return block

    def publish(self, block: int, key: bytes, name: int) -> None:
        """Make the content of a held block findable; the first block with a content keeps it.

        `key` tells tenants apart, `name` is what others know the content by.
        """
        if key not in self._block_of and block not in self._key_of:
            self._block_of[key] = block
            self._key_of[block] = key
            self._name_of[block] = name
            self.changes += 1

    def release(self, block: int) -> None:
        """One holder less."""
        self._holders[block] -= 1
        if self._holders[block]:
            return
        if block in self._key_of:
            self._idle[block] = None
        else:
            self._free.append(block)
