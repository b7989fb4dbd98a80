"""The file form of a recorded session: one stored message per line, as it stood in the log."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import orjson

from shared.contracts.base import encode
from shared.contracts.log import (
    ATTEMPT_HEADER,
    MSG_ID,
    TASK_HEADER,
    Malformed,
    StoredFact,
    read_fact,
)
from shared.subjects import session_prefix

KEPT = (MSG_ID, TASK_HEADER, ATTEMPT_HEADER, "traceparent")


def line_of(stored: StoredFact) -> bytes:
    """A fact as a line. A body that could not be read is not kept."""
    subject = f"{session_prefix(stored.ref)}.{stored.kind}"
    readable = not isinstance(stored.fact, Malformed)
    line = {
        "seq": stored.seq,
        "time": stored.time,
        "subject": f"{subject}.{stored.rest}" if stored.rest else subject,
        "headers": {name: stored.headers[name] for name in KEPT if name in stored.headers},
        "body": orjson.Fragment(encode(stored.fact)) if readable else None,
    }
    return orjson.dumps(line) + b"\n"


def write_history(path: Path, facts: Iterable[StoredFact]) -> None:
    """Write a session's facts."""
    path.write_bytes(b"".join(map(line_of, facts)))


def read_history(path: Path) -> list[StoredFact]:
    """Read them as the present release reads them."""
    found: list[StoredFact] = []
    for line in path.read_bytes().splitlines():
        row = orjson.loads(line)
        body = b"" if row["body"] is None else orjson.dumps(row["body"])
        stored = read_fact(row["subject"], body, row["seq"], row["time"], row["headers"])
        if stored is not None:
            found.append(stored)
    return found
