"""Owns the names of prompt blocks, by which it is known what of a prompt an engine has cached.

Must not know engines or transport. A name says what tokens stand in a block and in all before it,
so a set of names is a set of prefixes, and how much of a prompt is cached is counted from its
start. Whoever has the tokens can name the blocks; the engine's own ids mean nothing elsewhere.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Collection, Sequence

import msgspec

ROOT = 0
"""The name before the first block."""


class PrefixReport(msgspec.Struct, frozen=True, kw_only=True):
    """The blocks that an engine holds for reuse.

    `epoch` rises whenever what was known before is void: a reader then forgets it. `complete` is
    False where nothing is known (yet, or any more): an absent block may be there all the same.
    """

    block_tokens: int
    epoch: int = 0
    complete: bool = False
    blocks: frozenset[int] = frozenset()


def block_name(parent: int, token_ids: Sequence[int]) -> int:
    """The name of a full block behind the one named `parent`: 64 bits, never `ROOT`."""
    body = parent.to_bytes(8, "little") + array("i", token_ids).tobytes()
    return int.from_bytes(hashlib.blake2b(body, digest_size=8).digest(), "little") or 1


def block_names(token_ids: Sequence[int], block_tokens: int) -> tuple[int, ...]:
    """The names of a prompt's full blocks, from its start; a rest that fills no block has none."""
    names: list[int] = []
    parent = ROOT
    for start in range(0, len(token_ids) - block_tokens + 1, block_tokens):
        parent = block_name(parent, token_ids[start : start + block_tokens])
        names.append(parent)
    return tuple(names)


def overlap(names: Sequence[int], held: Collection[int]) -> int:
    """How many blocks of a prompt are held, counted from its start without a gap."""
    for count, name in enumerate(names):
        if name not in held:
            return count
    return len(names)
