"""One site on this machine: its servers, its database, its services, under one supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from infra.local import postgres, scraping, secured, servers
from infra.local.broker import CLIENT_FILE
from infra.local.child import Change, Prepare
from infra.local.plan import SERVICES
from infra.local.programs import Programs, programs
from infra.local.readiness import wait_until_ready
from infra.local.servers import Servers
from infra.local.settings import LocalSettings
from infra.local.supervisor import Supervisor
from infra.nats import links
from shared.errors import Transient
from shared.settings import Address
from shared.telemetry import configure

READY_WITHIN = 240.0
"""Seconds; a busy machine takes several times what an idle one does."""


class Site:
    """Servers first, then everything else; `say` hears what happens to the programs."""

    def __init__(
        self,
        settings: LocalSettings,
        found: Servers,
        environment: dict[str, str],
        say: Callable[[str], None],
        database: postgres.Postgres | None = None,
        join: servers.Join | None = None,
    ) -> None:
        """`settings.replicas` says how many of each service; `environment` is inherited."""
        self.settings = settings
        self.servers = found
        self._say = say
        self._database = database
        self._join = join
        url = {"MILLRACE_DATABASE_URL": database.url} if database else {}
        self._services: Programs = programs(settings, {**environment, **found.environment(), **url})
        self._brokers = {one.name: one for one in servers.programs(found, self._services.common)}
        self.supervisor = Supervisor(found.data, self._changed)
        self._lost: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        """Of the first ingress."""
        return f"http://{self.settings.http_host}:{self.settings.http_port}"

    @property
    def address(self) -> Address:
        """Of the servers, as their operator."""
        return self.servers.address

    @property
    def names(self) -> tuple[str, ...]:
        """All programs."""
        database = (postgres.NAME,) if self._database else ()
        return (*self._brokers, *database, *self._services.names)

    async def start(self) -> None:
        """Return when every service answers.

        Raises:
            Transient: `not_ready`, with where the logs are.
        """
        try:
            async with asyncio.timeout(READY_WITHIN):
                await self._start()
        except TimeoutError as error:
            raise Transient(
                "not_ready", f"the site is not ready; see {self.servers.data}/logs"
            ) from error

    async def _start(self) -> None:
        prepare = self._redeploy if len(self._brokers) == 1 else None
        for program in self._brokers.values():
            self.supervisor.start(program, prepare)
        log = configure("supervisor", "critical")
        admitting = secured.admit(self.address.url, self.servers.users, log)
        self._tasks.append(asyncio.create_task(admitting))
        if self._database is not None:
            program = self._database.program(self._services.common)
            child = self.supervisor.start(program, self._database.preparation())
            await child.prepared.wait()
        await self._redeploy()
        metrics = self._services.metrics
        scraping.write_targets(self.servers.data, self.settings.metrics_host, metrics)
        for program in self._services.services:
            self.supervisor.start(program)
        self._tasks.append(asyncio.create_task(self._watch()))
        await wait_until_ready(self.url, SERVICES, lambda _missing: None)

    async def _watch(self) -> None:
        """Over the programs, and over the links to other sites where there are any."""
        if self._join is None:
            await self.supervisor.watch()
            return
        monitors = [one.health_url for one in self.servers.identities]
        log = configure("supervisor", "critical")
        await asyncio.gather(
            self.supervisor.watch(), links.follow(self.address, monitors, self._join, log)
        )

    async def _redeploy(self) -> None:
        """A single server forgets what it holds in memory; a cluster does not."""
        await servers.deploy(self.servers, configure("supervisor", "critical"), self._join)

    async def lose(self, broker: str) -> None:
        """Kill a server as a crash would; it stays down."""
        self._lost.add(broker)
        await self.supervisor.lose(broker)

    def recover(self, broker: str) -> None:
        """Start a lost server again, on its port and its store."""
        self._lost.discard(broker)
        prepare: Prepare | None = self._redeploy if len(self._brokers) == 1 else None
        self.supervisor.start(self._brokers[broker], prepare)

    def _changed(self, change: Change) -> None:
        if change.state == "failed" and change.name not in self._lost:
            self._say(f"{change.name}: {change.detail}")

    async def stop(self) -> None:
        """Everything, stage by stage; harmless where nothing was started."""
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.supervisor.stop()
        (self.servers.data / CLIENT_FILE).unlink(missing_ok=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error
