"""Which parts of a conversation can be forgotten, the oldest first, where it is too long.

Must not know tokens. What a system message says at the beginning stays, as do the last words of the
user and the newest exchange behind them; a call goes with its results or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

Json = dict[str, object]


def forgettable(messages: Sequence[Json]) -> list[range]:
    """The parts that can go: whole turns before the last one, then the exchanges of that one."""
    first = 0
    while first < len(messages) and messages[first]["role"] == "system":
        first += 1
    begins = [n for n in range(first, len(messages)) if messages[n]["role"] == "user"]
    if not begins:
        return []
    starts = begins if begins[0] == first else [first, *begins]
    turns = [range(a, b) for a, b in pairwise(starts)]
    said = [n for n in range(begins[-1] + 1, len(messages)) if messages[n]["role"] != "tool"]
    exchanges = [range(a, b) for a, b in pairwise(said)]
    return turns + exchanges


def without(messages: Sequence[Json], parts: Sequence[range]) -> Sequence[Json]:
    """What is left of a conversation without some of its parts."""
    gone = {n for part in parts for n in part}
    return [message for n, message in enumerate(messages) if n not in gone]


def moved(thoughts: Mapping[int, str], parts: Sequence[range]) -> dict[int, str]:
    """What is known of messages by their places, by the places that they have `without` parts."""
    gone = {n for part in parts for n in part}
    return {
        place - sum(n < place for n in gone): thought
        for place, thought in thoughts.items()
        if place not in gone
    }
