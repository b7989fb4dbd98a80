"""The client of a running system, with the questions to the ledger; and how to connect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from shared import backup as backups
from shared.bus.connect import open_bus
from shared.bus.copies import Copied, Copies
from shared.client import Millrace, Task
from shared.contracts.agents import LimitsPatch, OnBusy
from shared.contracts.backup import Manifest
from shared.contracts.base import Message, SessionRef
from shared.contracts.ledger import (
    LedgerQuery,
    LedgerState,
    RebuildLedger,
    TasksQuery,
    TasksReply,
    UsageQuery,
    UsageReply,
)
from shared.contracts.log import StoredFact
from shared.contracts.retrieval import IndexState
from shared.documents import ask
from shared.errors import Transient
from shared.keys import Keys
from shared.settings import Address
from shared.subjects import (
    INDEX_REBUILD,
    INDEX_STATE,
    LEDGER_REBUILD,
    LEDGER_STATE,
    LEDGER_TASKS,
    LEDGER_USAGE,
)
from shared.telemetry import configure

PATIENCE = 4.0
"""Seconds until a broker that does not answer counts as away."""


class CommandClient(Millrace):
    """The typed client plus what the ledger answers."""

    async def ask(
        self,
        agent: str,
        question: str,
        session: str | None,
        limits: LimitsPatch | None,
        on_busy: OnBusy | None = None,
    ) -> Task:
        """Submit a task; durable when this returns."""
        return await self.submit(agent, question, session=session, limits=limits, on_busy=on_busy)

    @property
    def keys(self) -> Keys:
        """The API keys of the tenant."""
        return Keys(self.bus, self.tenant)

    async def tasks(self, query: TasksQuery) -> TasksReply:
        """Recent tasks.

        Raises:
            Transient: `no_responders` while the ledger is away.
        """
        return await ask(self.bus, LEDGER_TASKS, query, TasksReply)

    async def usage(self, query: UsageQuery) -> UsageReply:
        """Usage, grouped.

        Raises:
            Transient: `no_responders` while the ledger is away.
        """
        return await ask(self.bus, LEDGER_USAGE, query, UsageReply)

    async def ledger_state(self, query: LedgerQuery) -> LedgerState:
        """How far the ledger is.

        Raises:
            Transient: `no_responders` while it is away.
        """
        return await ask(self.bus, LEDGER_STATE, query, LedgerState)

    async def rebuild_ledger(self, order: RebuildLedger) -> LedgerState:
        """Have it drop its rows and read the log again.

        Raises:
            Permanent: `log_too_short`.
            Transient: `no_responders`.
        """
        return await ask(self.bus, LEDGER_REBUILD, order, LedgerState, 60.0)

    async def find_copy(self, task: str, site: str = "") -> tuple[str, str] | None:
        """Where a task ran, if that was at a site of this hub.

        Raises:
            Permanent: `invalid_name`.
        """
        found = await Copies(self.bus).find(self.tenant, task, site)
        return None if found is None else (found.site, found.ref.session)

    async def copy_of(self, site: str, session: str, after: int = 0) -> list[StoredFact]:
        """What is known here of a session of a site.

        Raises:
            Permanent: `invalid_name`.
        """
        copied = Copied(site, SessionRef(self.tenant, session))
        return await Copies(self.bus).read(copied, after)

    async def index_state(self) -> IndexState:
        """How far the index is.

        Raises:
            Transient: `no_responders` while retrieval is away.
        """
        return await ask(self.bus, INDEX_STATE, Message(), IndexState)

    async def rebuild_index(self) -> IndexState:
        """Have it emptied and filled again.

        Raises:
            Transient: `no_responders`, `index_unavailable`.
        """
        return await ask(self.bus, INDEX_REBUILD, Message(), IndexState, 60.0)

    async def backup(self, folder: Path, said: backups.Said) -> Manifest:
        """Write every durable stream into a new folder.

        Raises:
            Permanent: `folder_exists`.
            Transient: `snapshot_interrupted`.
        """
        return await backups.backup(self.bus, folder, said)

    async def restore(self, folder: Path, said: backups.Said, *, force: bool = False) -> Manifest:
        """Make every stream of a backup, where no service runs.

        Raises:
            Permanent: `no_backup`, `damaged_backup`, `services_running`, `not_empty`.
            Broken: `restore_failed`.
        """
        return await backups.restore(self.bus, folder, force=force, said=said)


@asynccontextmanager
async def connect(address: Address, tenant: str | None) -> AsyncIterator[CommandClient]:
    """Connect within a few seconds, or say that nothing runs there.

    The bus itself waits for its broker for ever, which is right for a service and wrong for a
    person. Without a tenant it is the one whose key the address holds, else `default`.

    Raises:
        Transient: `no_broker`.
        Permanent: `wrong_tenant`, for another name than that one's.
    """
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(PATIENCE):
                bus = await stack.enter_async_context(
                    open_bus(address, "cli", configure("cli", "critical"))
                )
        except (TimeoutError, OSError) as error:
            raise Transient(
                "no_broker", f"nothing answers at {address.url} (start the system with `make run`)"
            ) from error
        yield CommandClient(bus, tenant)
