"""Replay: `replay.<tenant>.<session>`, request/reply. The log of a session, decided once more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from shared.contracts.base import Message
from shared.errors import Failure

Verdict = Literal["explained", "outside", "unexplained"]


class ReplayQuery(Message, frozen=True):
    """A page of the log: the facts after a sequence, at most `limit` of them.

    With `differences` only those come back that nothing explains. With `at` it is one fact, the
    last one up to that sequence, and the state behind it.
    """

    after: int = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=5000)] = 200
    differences: bool = False
    at: int = 0


class ReplayRow(Message, frozen=True):
    """A fact beside what the present code decides.

    `explained`: the loop would have appended it, or asked for it, when the log ended at `by`.
    `outside`: it came from a person or a client. `unexplained`: neither; `due` says what would
    have been done instead. `decided` names what is to be done from this fact on.
    """

    seq: int
    time: float
    kind: str
    task: str
    verdict: Verdict
    step: int | None = None
    by: int = 0
    decided: tuple[str, ...] = ()
    due: tuple[str, ...] = ()


class ReplayReply(Message, frozen=True):
    """`facts` were looked at for this page; `next` is the `after` of the page behind it."""

    rows: tuple[ReplayRow, ...] = ()
    facts: int = 0
    next: int | None = None
    state: dict[str, object] | None = None
    error: Failure | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """How many facts follow from the log before them, and the first one that does not."""

    facts: int
    difference: ReplayRow | None = None
