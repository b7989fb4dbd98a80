"""What a trace is made of, as values (pure): W3C contexts, derived ids, spans.

The id of a span follows from what it is about, so whoever makes it again makes the same one: a
trace may be told twice, after a crash or from a replay, and is still one trace.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from shared.contracts.base import SessionRef

TRACEPARENT = "traceparent"
"""The header of W3C trace context, in HTTP and in messages."""
ROOT = "task"
"""The name of a task's root span."""
Kind = Literal["internal", "server", "client"]
Value = str | bool | int | float | Sequence[str]
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a trace, as `traceparent` has it."""

    trace_id: str
    span_id: str
    sampled: bool = True

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


@dataclass(frozen=True, slots=True)
class Happening:
    """A moment in a span, in epoch seconds."""

    name: str
    time: float
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """A span that has ended. Times in epoch seconds; `error` is the code of what went wrong."""

    name: str
    context: TraceContext
    start: float
    end: float
    service: str
    parent: TraceContext | None = None
    kind: Kind = "internal"
    attributes: Mapping[str, Value] = field(default_factory=dict)
    error: str = ""
    events: tuple[Happening, ...] = ()


@lru_cache(maxsize=1024)  # the messages of a step, and all its deltas, have the same one
def context_of(header: str | None) -> TraceContext | None:
    """The context in a `traceparent`; None where there is none or it is malformed.

    A version that is not known yet is read as far as it agrees with the first, as W3C asks.
    """
    found = _TRACEPARENT.fullmatch(header or "")
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    if not (set(found[2]) - {"0"} and set(found[3]) - {"0"}):
        return None
    return TraceContext(found[2], found[3], bool(int(found[4], 16) & 1))


def trace_id_of(ref: SessionRef, task: str) -> str:
    """The derived trace id of a task: 32 hex digits."""
    return hashlib.blake2b(f"{ref}/{task}".encode(), digest_size=16).hexdigest()


def span_id_of(ref: SessionRef, task: str, span: str = ROOT) -> str:
    """The derived id of a span of a task: 16 hex digits. A step's is named by its number."""
    return hashlib.blake2b(f"{ref}/{task}/{span}".encode(), digest_size=8).hexdigest()
