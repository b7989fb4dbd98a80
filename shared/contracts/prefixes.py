"""What workers say of the beginnings of prompts that their caches hold; the router's to read."""

from __future__ import annotations

from shared.contracts.base import Message


class PrefixChange(Message, frozen=True):
    """Blocks that a worker's cache has stored or dropped since its last word.

    `number` counts its words; whoever misses one asks for the whole, which comes in parts: `whole`
    says that what was known before is void, `more` that another part follows.

    A block's name follows from its tokens and all before them: with `parent` 0 for the first block,
    BLAKE2b of 8 bytes over the parent's name (8 bytes, little-endian) and the token ids (4 bytes
    each), read little-endian. Two workers of one model call the same beginning the same.
    """

    worker: str
    model: str
    block_tokens: int
    number: int
    stored: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    whole: bool = False
    more: bool = False
    complete: bool = True
    """False where a block that is not named may be held all the same."""
