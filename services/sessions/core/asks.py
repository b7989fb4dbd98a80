"""How much of what is stored fits into one answer. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from shared.contracts.asks import StoredMessage
from shared.contracts.base import encode


def fitting(rows: Iterable[StoredMessage], room: int) -> list[StoredMessage]:
    """The first of `rows` that fit into so many bytes, and always one.

    A body that fills an answer by itself is left out, to be asked for in pieces. What is left of
    a message is small: no stream takes more than 64 KiB of headers.
    """
    found: list[StoredMessage] = []
    most = room // 2
    for row in rows:
        fits = row if len(encode(row)) <= most else replace(row, text="", raw=b"")
        room -= len(encode(fits))
        if room < 0 and found:
            return found
        found.append(fits)
    return found
