"""`FactLog` on RUNS, with the last folded state of each session kept beside its facts.

A snapshot is a shortcut, never a truth: it holds the digest of the code that folded it (the shape
of the state and the text of the core), and one with another digest is not looked at. It is a
rolled-up message on a subject of its own, which no reader of facts knows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import orjson

from services.sessions import core
from services.sessions.core.state import SessionState
from shared.bus.connect import Bus
from shared.bus.kv import KeyValue
from shared.bus.log import RunLog
from shared.contracts.base import SessionRef
from shared.contracts.facts import Deleted, Forked
from shared.contracts.log import StoredFact
from shared.subjects import RUNS, snapshot_subject

HEAD = 100
"""Facts that are read before a snapshot is asked for: most sessions have not even that many."""


@cache
def fold_digest() -> str:
    """Names the fold: another shape of the state, or another text of the core, is another one."""
    schema = msgspec.json.schema(SessionState, schema_hook=_anything)
    digest = hashlib.sha256(orjson.dumps(_plain(schema)))
    for folder in core.__path__:
        for path in sorted(Path(folder).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def _anything(_kind: type) -> dict[str, object]:
    """The schema of a JSON value whose shape is not ours, as that of a client's tool."""
    return {"title": "anything"}


def _plain(schema: Any) -> Any:  # noqa: ANN401  # JSON
    """A schema without its texts for people."""
    if isinstance(schema, Mapping):
        return {k: _plain(v) for k, v in sorted(schema.items()) if k != "description"}
    return [_plain(one) for one in schema] if isinstance(schema, list) else schema


def pack(state: SessionState, digest: str) -> bytes:
    """The body of a snapshot."""
    return orjson.dumps({"fold": digest, "state": msgspec.to_builtins(state, str_keys=True)})


def unpack(body: bytes, digest: str) -> SessionState | None:
    """The state in a snapshot; None where other code made it, or it cannot be read."""
    try:
        found = orjson.loads(body)
        if found["fold"] != digest:
            return None
        return msgspec.convert(found["state"], SessionState, str_keys=True)
    except (orjson.JSONDecodeError, msgspec.ValidationError, KeyError, TypeError):
        return None


class SessionLog:
    """`FactLog` on the bus."""

    def __init__(self, bus: Bus, digest: str = "") -> None:
        self._bus, self._log = bus, RunLog(bus)
        self._last = KeyValue.over(bus, RUNS)
        self._digest = digest or fold_digest()

    async def read(self, ref: SessionRef, after: int = 0) -> Sequence[StoredFact]:
        """See `FactLog.read`."""
        return await self._log.read(ref, after)

    async def first(self, ref: SessionRef) -> StoredFact | None:
        """See `FactLog.first`."""
        return await self._log.first(ref)

    async def load(self, ref: SessionRef) -> tuple[SessionState, Sequence[StoredFact]]:
        """See `FactLog.load`. A short session costs one request, a long one three."""
        facts, whole = await self._log.head(ref, HEAD)
        forked = bool(facts) and isinstance(facts[0].fact, Forked)
        if whole and not forked:
            return SessionState(ref=ref), facts
        entry = await self._last.get(snapshot_subject(ref))
        state = unpack(entry.value, self._digest) if entry else None
        if state is not None and state.ref == ref:
            missed = await self._log.read(ref, state.seq)
            if not any(isinstance(one.fact, Deleted) for one in missed):
                return state, missed
            # it is of a life that was deleted since
        if forked:  # what it took over from its parent comes before its own
            return SessionState(ref=ref), await self._log.read(ref)
        rest = await self._log.read(ref, facts[-1].seq if facts else 0)
        return SessionState(ref=ref), [*facts, *rest]

    async def forget(self, ref: SessionRef) -> None:
        """See `FactLog.forget`."""
        await self._bus.api(f"STREAM.PURGE.{RUNS}", {"filter": snapshot_subject(ref)})

    async def save(self, state: SessionState) -> None:
        """See `FactLog.save`."""
        body = pack(state, self._digest)
        await self._bus.publish(snapshot_subject(state.ref), body, {"Nats-Rollup": "sub"})
