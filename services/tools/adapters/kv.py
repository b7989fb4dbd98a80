"""Owns the key-value buckets of the tools service: notes of sessions, announced tools."""

from __future__ import annotations

from collections.abc import Sequence

from shared.bus.connect import Bus
from shared.bus.kv import KeyValue
from shared.contracts.agents import ToolSpec
from shared.contracts.base import SessionRef, as_token, encode
from shared.errors import Transient
from shared.subjects import MEMORY, TOOL_SPECS


class BucketMemory:
    """Notes in KV `memory`, one key per note: `<tenant>.<session>.<key as a token>`."""

    def __init__(self, bus: Bus) -> None:
        self._notes = KeyValue(bus, MEMORY)

    async def put(self, ref: SessionRef, key: str, value: str) -> None:
        """The last write wins."""
        try:
            await self._notes.put(_note(ref, key), value.encode())
        except Transient as error:
            raise _unavailable() from error

    async def get(self, ref: SessionRef, key: str) -> str | None:
        """What was kept."""
        try:
            entry = await self._notes.get(_note(ref, key))
        except Transient as error:
            raise _unavailable() from error
        return None if entry is None else entry.value.decode()


def _unavailable() -> Transient:
    return Transient("storage_unavailable", "storage unavailable")


def _note(ref: SessionRef, key: str) -> str:
    return f"{ref.tenant}.{ref.session}.{as_token(key)}"


class BucketSpecs:
    """Announced tools in KV `tools`."""

    def __init__(self, bus: Bus) -> None:
        self._specs = KeyValue(bus, TOOL_SPECS)

    async def publish(self, specs: Sequence[ToolSpec]) -> None:
        """Write what is new or has changed."""
        present = {entry.key: entry.value for entry in await self._specs.entries()}
        for spec in specs:
            body = encode(spec)
            if present.get(spec.name) != body:
                await self._specs.put_surely(spec.name, body)
