"""The only place where time is read and random ids are minted; the core takes both as arguments."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime


def now() -> float:
    """Seconds since the epoch, UTC."""
    return time.time()


def monotonic() -> float:
    """Seconds of a clock that never steps back; for durations only."""
    return time.monotonic()


def utc() -> datetime:
    """The present instant as an aware datetime."""
    return datetime.now(UTC)


def mint_id(prefix: str) -> str:
    """A new id `<prefix>_<26 hex digits>`: 48 bits of milliseconds, then 56 random bits.

    Sortable by time and a valid subject token. Used only where nothing exists to derive from.
    """
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{os.urandom(7).hex()}"


def mint_span() -> str:
    """A new W3C span id: 16 hex digits."""
    return os.urandom(8).hex()


def mint_trace() -> str:
    """A new W3C trace id: 32 hex digits."""
    return os.urandom(16).hex()
