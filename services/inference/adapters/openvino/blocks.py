"""Owns the blocks of the paged KV cache: who holds them and which hold a known prefix.

Must not know requests, tensors or time. Every block is in exactly one state: free, held by one or
more sequences, or cached (held by none, its content known). The cached block that was left longest
ago goes first; one that is worth more counts as if it had been left as many releases later as there
are blocks, one that is worth less as many earlier. So nothing is kept for ever.

A block that only one lineage of prompts has used is that lineage's: it goes when nobody comes back
to those. What others have used too, the words that all agents share, stays.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict, deque
from collections.abc import Sequence

from services.inference.ports import Keep

_WORTH: dict[Keep, int] = {"short": -1, "usual": 0, "long": 1}


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
        self._idle: dict[int, OrderedDict[int, int]] = {
            worth: OrderedDict() for worth in (-1, 0, 1)
        }
        """By what they are worth: cached blocks, each with when it goes, the next one first."""
        self._worth: dict[int, int] = {}
        """The most that a block was worth to those who have left it since it is held."""
        self._left = 0
        self._lineage_of: dict[int, str] = {}
        self._blocks_of: dict[str, set[int]] = {}

    @property
    def free(self) -> int:
        """Blocks nobody holds and whose content is unknown."""
        return len(self._free)

    @property
    def cached(self) -> int:
        """Blocks nobody holds whose content may be used again."""
        return sum(map(len, self._idle.values()))

    @property
    def names(self) -> frozenset[int]:
        """The names (`core.blocks`) of all blocks whose content may be shared."""
        return frozenset(self._name_of.values())

    @property
    def available(self) -> int:
        """Blocks that `take` can still give."""
        return self.free + self.cached

    def take(self) -> int | None:
        """Give a block to one holder, forgetting a cached prefix if need be."""
        if not self._free:
            first = min(
                (next(iter(idle.items())) for idle in self._idle.values() if idle),
                key=lambda one: one[1],
                default=None,
            )
            if first is None:
                return None
            self._forget_content(first[0])
        block = self._free.popleft()
        self._holders[block] = 1
        return block

    def share(self, key: bytes, lineage: str = "") -> int | None:
        """Give one more holder to the block with that content, if there is one."""
        block = self._block_of.get(key)
        if block is None:
            return None
        if not self._holders[block]:
            del self._idle[self._worth.pop(block)][block]
        if self._lineage_of.get(block) != lineage:
            self._disown(block)
        self._holders[block] += 1
        return block

    def publish(self, block: int, key: bytes, name: int, lineage: str = "") -> None:
        """Make the content of a held block findable; the first block with a content keeps it.

        `key` tells tenants apart, `name` is what others know the content by.
        """
        if key not in self._block_of and block not in self._key_of:
            self._block_of[key] = block
            self._key_of[block] = key
            self._name_of[block] = name
            self.changes += 1
            if lineage:
                self._lineage_of[block] = lineage
                self._blocks_of.setdefault(lineage, set()).add(block)

    def release(self, block: int, keep: Keep = "usual") -> None:
        """One holder less; `keep` is what the content is worth to it from now on."""
        self._holders[block] -= 1
        worth = self._worth[block] = max(self._worth.get(block, -1), _WORTH[keep])
        if self._holders[block]:
            return
        if block in self._key_of:
            self._left += 1
            self._idle[worth][block] = self._left + worth * self.total
        else:
            del self._worth[block]
            self._free.append(block)

    def forget(self, lineage: str) -> None:
        """Nobody comes back to these prompts: free what only they have used, and nobody holds."""
        for block in self._blocks_of.pop(lineage, ()):
            del self._lineage_of[block]
            if not self._holders[block]:
                self._forget_content(block)

    def _forget_content(self, block: int) -> None:
        """A cached block becomes a free one."""
        del self._idle[self._worth.pop(block)][block]
        del self._block_of[self._key_of.pop(block)]
        del self._name_of[block]
        self._disown(block)
        self._free.append(block)
        self.changes += 1

    def _disown(self, block: int) -> None:
        """It is no single lineage's any more."""
        lineage = self._lineage_of.pop(block, None)
        if lineage is not None:
            self._blocks_of[lineage].discard(block)
            if not self._blocks_of[lineage]:
                del self._blocks_of[lineage]
