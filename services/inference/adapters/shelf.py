"""`ToolShelf` over the bucket in which the tools service publishes its definitions."""

from __future__ import annotations

from collections.abc import Sequence

from shared.bus.connect import Bus
from shared.bus.kv import Entry, KeyValue
from shared.contracts.agents import ToolSpec
from shared.contracts.base import decode
from shared.subjects import TOOL_SPECS


class KvShelf:
    """Keeps all definitions in memory and follows their changes."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._kv = KeyValue(bus, TOOL_SPECS)
        self._specs: dict[str, ToolSpec] = {}

    async def start(self) -> None:
        """Read what is there, then follow."""
        await self._kv.watch(self._changed)
        self._bus.on_reconnect(self._refresh)
        await self._refresh()

    async def stop(self) -> None:
        """Nothing to end: the subscription goes with the connection."""

    async def _changed(self, _notice: Entry) -> None:
        await self._refresh()  # the bucket is small, and a notice may come late

    async def _refresh(self) -> None:
        specs = [decode(entry.value, ToolSpec) for entry in await self._kv.entries()]
        self._specs = {spec.name: spec for spec in specs}

    def specs(self, names: Sequence[str]) -> Sequence[ToolSpec]:
        """See `ToolShelf.specs`."""
        return [self._specs[name] for name in names if name in self._specs]
