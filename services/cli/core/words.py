"""Numbers as people read them: durations, money, tokens, times, sizes (pure)."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

from shared.contracts.facts import Usage

PER_DOLLAR = 100_000_000
"""Prices are millionths of a cent."""


def duration(ms: float) -> str:
    """`0.4 ms`, `38 ms`, `1.24 s`, `2 m 05 s`, `3 h 10 m`."""
    if ms < 10:
        return f"{ms:.1f} ms"
    if ms < 999.5:
        return f"{ms:.0f} ms"
    seconds = ms / 1000
    if seconds < 99.95:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} m {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} m"


def money(price: int) -> str:
    """Millionths of a cent in dollars, with the digits that matter."""
    if not price:
        return "$0"
    dollars = price / PER_DOLLAR
    if abs(dollars) >= 0.01:
        return f"${dollars:,.2f}"
    return f"${dollars:.8f}".rstrip("0")


def tokens(usage: Usage) -> str:
    """`200 in (128 cached), 20 out`."""
    cached = f" ({usage.cached:,} cached)" if usage.cached else ""
    return f"{usage.input:,} in{cached}, {usage.output:,} out"


def ago(seconds: float) -> str:
    """`now`, `12 s ago`, `3 m ago`, `2 h ago`, `5 d ago`."""
    if seconds < 1:
        return "now"
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "m"), (86_400, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // size)} {unit} ago"
    return f"{int(seconds // 86_400)} d ago"


def instant(time: float) -> str:
    """A point in time where the reader is, to the second."""
    return datetime.fromtimestamp(time, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def clock(time: float) -> str:
    """A time of day where the reader is, to the millisecond."""
    local = datetime.fromtimestamp(time, UTC).astimezone()
    return f"{local:%H:%M:%S}.{local.microsecond // 1000:03d}"


def size(amount: float) -> str:
    """`512 B`, `3.4 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def printable(text: str) -> str:
    """Without control characters but newline and tab: what a model or a document says must not
    steer the reader's terminal."""
    return "".join(mark for mark in text if mark in "\n\t" or unicodedata.category(mark) != "Cc")


def clip(text: str, width: int) -> str:
    """The text on one line of at most `width` characters."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"


def plural(count: int, word: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
