"""Who shall own which partition: a function of who is there, so that all give the same answer."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from shared.subjects import PARTITIONS


def shares(members: Collection[str]) -> dict[int, str]:
    """Partition -> member: rendezvous hashing with bounded loads.

    Every member has a score for every partition; the highest scores are served first, and nobody
    gets more than its even share (rounded up). One member more or less moves few partitions.
    """
    if not members:
        return {}
    most = -(-PARTITIONS // len(members))
    scored = sorted(
        ((_score(partition, member), partition, member))
        for partition in range(PARTITIONS)
        for member in members
    )
    found: dict[int, str] = {}
    load = dict.fromkeys(members, 0)
    for _, partition, member in reversed(scored):
        if partition not in found and load[member] < most:
            found[partition] = member
            load[member] += 1
    return found


def _score(partition: int, member: str) -> bytes:
    return hashlib.blake2b(f"{partition}/{member}".encode(), digest_size=8).digest()
