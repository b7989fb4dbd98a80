"""Agent definitions: the folder is published to KV `agents`, and KV is what the loop reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import yaml

from shared.bus.connect import Bus
from shared.bus.kv import Entry, KeyValue
from shared.contracts.agents import AgentSpec
from shared.contracts.base import check_token, decode, encode
from shared.errors import Permanent
from shared.subjects import AGENTS, SHARED_TENANT


def read_agents(folder: Path) -> dict[str, AgentSpec]:
    """The agents of a folder, one YAML file each.

    Raises:
        Permanent: `invalid_agent`, naming the file and what is wrong in it.
    """
    found: dict[str, AgentSpec] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            body = yaml.safe_load(path.read_text(encoding="utf-8"))
            agent = msgspec.convert({"name": path.stem, **(body or {})}, AgentSpec)
        except (yaml.YAMLError, msgspec.ValidationError, TypeError) as error:
            raise Permanent("invalid_agent", f"{path.name}: {error}") from error
        found[check_token(agent.name, f"{path.name}: name")] = agent
    return found


class KvAgents:
    """`AgentCatalog` over the bucket `agents`; keys are `<tenant>.<agent>`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._kv = KeyValue(bus, AGENTS)
        self._known: dict[str, dict[str, tuple[int, AgentSpec]]] = {}
        self._merged: dict[str, dict[str, tuple[int, AgentSpec]]] = {}

    async def start(self, folder: Path) -> None:
        """Publish the folder's agents where they changed, then follow the bucket.

        Raises:
            Permanent: `invalid_agent`.
            Transient: `bus_unavailable`.
        """
        await self._kv.watch(self._changed)
        await self.refresh()
        self._bus.on_reconnect(self.refresh)
        shared = self._known.get(SHARED_TENANT, {})
        for name, agent in read_agents(folder).items():
            if shared.get(name, (0, None))[1] != agent:
                await self._kv.put(f"{SHARED_TENANT}.{name}", encode(agent))
        await self.refresh()

    async def refresh(self) -> None:
        """Read the whole bucket."""
        known: dict[str, dict[str, tuple[int, AgentSpec]]] = {}
        for entry in await self._kv.entries():
            self._take(entry, known)
        self._known, self._merged = known, {}  # at once: a task must never meet half a catalog

    async def _changed(self, _notice: Entry) -> None:
        await self.refresh()  # a notice has no revision; the bucket is small

    def _take(self, entry: Entry, known: dict[str, dict[str, tuple[int, AgentSpec]]]) -> None:
        tenant, _, name = entry.key.partition(".")
        try:
            agent = decode(entry.value, AgentSpec)
        except Permanent as error:
            self._bus.log.error("agent.invalid", key=entry.key, error=str(error))
            return
        known.setdefault(tenant, {})[name] = (entry.revision, agent)

    def of(self, tenant: str) -> Mapping[str, tuple[int, AgentSpec]]:
        """See `AgentCatalog.of`."""
        merged = self._merged.get(tenant)
        if merged is None:
            own = self._known.get(tenant, {})
            merged = self._merged[tenant] = {**self._known.get(SHARED_TENANT, {}), **own}
        return merged
