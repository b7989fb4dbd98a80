"""What the processes under test write down beside the log: executions and side effects.

One line each, written at once by one `write` to a file opened for appending, so a line is whole
and outlives the process that wrote it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import orjson

from shared.contracts.base import SessionRef

EXECUTIONS, EFFECTS = "executions.jsonl", "effects.jsonl"


class Execution(msgspec.Struct, frozen=True):
    """A step was run. `asked` is the moment before its executor could look into the log for a

    result (at the delivery), `began` that of the run itself; both by the machine's real clock.
    """

    kind: str
    tenant: str
    session: str
    task: str
    step: int
    executor: str
    asked: float
    began: float
    attempt: int = 1
    balanced: bool = True
    """Whether the transcript that the model was shown was balanced."""

    @property
    def place(self) -> Place:
        return Place(SessionRef(self.tenant, self.session), self.task, self.step)


@dataclass(frozen=True, order=True)
class Place:
    """A step, as the log and the records name it."""

    ref: SessionRef
    task: str
    step: int


class Effect(msgspec.Struct, frozen=True):
    """A line of the file ledger: the side effect of a step happened."""

    tenant: str
    session: str
    task: str
    step: int

    @property
    def place(self) -> Place:
        return Place(SessionRef(self.tenant, self.session), self.task, self.step)


def real_now() -> float:
    """The machine's own time, whatever a process under test believes it is."""
    return time.clock_gettime(time.CLOCK_REALTIME)


def write_line(path: Path, record: msgspec.Struct) -> None:
    """Append a record in one piece."""
    body = orjson.dumps(msgspec.to_builtins(record)) + b"\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, body)
    finally:
        os.close(file)


def read_lines[R: msgspec.Struct](path: Path, kind: type[R]) -> list[R]:
    """All records of a file; none where it does not exist."""
    if not path.exists():
        return []
    return [msgspec.convert(orjson.loads(line), kind) for line in path.read_bytes().splitlines()]
