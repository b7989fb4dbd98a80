"""What a scenario leaves behind to be judged: submissions, facts, records, readings, faults."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import orjson

from shared.contracts.base import SessionRef
from shared.contracts.dead import DeadLetter
from shared.contracts.facts import Usage
from shared.contracts.log import StoredFact
from tests.chaos.model import Order
from tests.chaos.records import Effect, Execution, Place


@dataclass(eq=False)
class Submission:
    """A task as the driver meant it, and what it knows of its delivery."""

    ref: SessionRef
    task: str
    order: Order
    bad: str = ""
    """The error code that it has to end with, where the input is bad."""
    cancelled: bool = False
    """Whether somebody asked for its end."""
    acknowledged: bool = False


@dataclass(frozen=True)
class Seen:
    """An event as a reader got it. `seq` is that of the last fact before or at it."""

    id: str
    kind: str
    seq: int
    step: int = -1
    attempt: int = 0
    index: int = 0
    text: str = ""


@dataclass(eq=False)
class Reading:
    """All that one reader saw of a task, over all its connections."""

    submission: Submission
    way: str
    events: list[Seen] = field(default_factory=list)
    connections: int = 0
    ended: bool = False
    """Whether it saw the task's `done`."""


@dataclass(frozen=True)
class Fault:
    """Something was done to the system at a moment (real clock)."""

    kind: str
    target: str
    at: float


@dataclass(frozen=True)
class Bill:
    """Model calls, tokens and money."""

    usage: Usage = field(default_factory=Usage)
    price: int = 0
    calls: int = 0


Account = tuple[str, str, str]
"""A tenant, what its usage is grouped by, and the group."""


@dataclass
class Evidence:
    """Everything of one scenario."""

    submissions: list[Submission]
    facts: list[StoredFact]
    faults: list[Fault]
    executions: list[Execution] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    reruns: Counter[Place] = field(default_factory=Counter)
    """How often a person said of a step: run it again."""
    readings: list[Reading] = field(default_factory=list)
    ledger: dict[Account, Bill] = field(default_factory=dict)
    """What `/v1/usage` of an ingress says."""
    billed: dict[Account, Bill] = field(default_factory=dict)
    """The sums over the whole log, of this scenario and all before it."""
    letters: list[DeadLetter] = field(default_factory=list)
    replayed: list[str] = field(default_factory=list)
    """What `replay --check` says against the sessions; none of it should be."""
    forged: frozenset[int] = frozenset()
    """Sequences of facts that the driver itself published again."""


def write_down(evidence: Evidence, path: Path) -> None:
    """Facts and faults in the order of time, one line each: to read when something is found."""
    faults = [{"time": one.at, "fault": one.kind, "target": one.target} for one in evidence.faults]
    facts = [_line(stored) for stored in evidence.facts]
    lines = sorted([*faults, *facts], key=lambda line: float(str(line["time"])))
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))


def _line(stored: StoredFact) -> dict[str, object]:
    body: object = msgspec.to_builtins(stored.fact)
    names = {"time": stored.time, "seq": stored.seq, "ref": str(stored.ref), "kind": stored.kind}
    return {**names, "task": stored.task, "fact": body}
