"""`python -m infra.local`: the composition root of the local system."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from infra.local import broker, folder, health, scraping, secured
from infra.local.plan import NATS, SERVICES, read_replicas
from infra.local.programs import Programs, programs
from infra.local.readiness import wait_until_ready
from infra.local.server import check_sync
from infra.local.settings import LocalSettings, inherited_environment
from infra.local.supervisor import GRACE, Supervisor
from infra.local.view import Addresses, View
from infra.nats import topology
from infra.watching import Watch, under_watch
from shared.clock import monotonic
from shared.errors import MillraceError, Permanent
from shared.metrics.exporter import TARGETS_FILE
from shared.telemetry import configure


@dataclass(frozen=True, slots=True)
class How:
    """What the command line says beside the settings."""

    quiet: bool = False
    only_broker: bool = False


def read_settings(arguments: list[str]) -> tuple[LocalSettings, How]:
    """The settings, options of the command line over the environment, and how to run."""
    parser = argparse.ArgumentParser(prog="millrace-local", description="Runs the whole system.")
    parser.add_argument("--port", type=int, help="HTTP port (MILLRACE_HTTP_PORT)")
    parser.add_argument("--data", type=Path, help="data folder (MILLRACE_DATA)")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--only-broker", action="store_true", help="the broker, no service")
    options = parser.parse_args(arguments)
    given = {"http_port": options.port, "data": options.data}
    settings = LocalSettings(**{k: v for k, v in given.items() if v is not None})
    return settings, How(options.quiet, options.only_broker)


def check(settings: LocalSettings) -> None:
    """Refuse what cannot work, before anything starts.

    Raises:
        Permanent: `port_in_use` or `invalid_setting`.
    """
    replicas = read_replicas(settings.replicas)
    for port in range(settings.http_port, settings.http_port + replicas.get("ingress", 1)):
        if not broker.port_is_free(port, settings.http_host):
            raise Permanent(
                "port_in_use",
                f"something listens on {settings.http_host}:{port} already; "
                "set MILLRACE_HTTP_PORT to another port",
            )
    if settings.nats_url is None and settings.stream_replicas > 1:
        raise Permanent(
            "invalid_setting",
            f"MILLRACE_STREAM_REPLICAS={settings.stream_replicas} needs a cluster; the embedded "
            "server is one: set MILLRACE_NATS_URL to the cluster's servers, or leave it out",
        )
    if settings.nats_url is not None and settings.bus_tls:
        raise Permanent(
            "invalid_setting",
            "MILLRACE_BUS_TLS is about the server that is started here; for the one at "
            "MILLRACE_NATS_URL name the authority of its certificate in MILLRACE_NATS_CA",
            field="MILLRACE_BUS_TLS",
        )
    try:
        check_sync(settings.sync)
    except ValueError as error:
        raise Permanent("invalid_setting", str(error)) from error


async def run(settings: LocalSettings, how: How) -> None:
    """Everything, until a signal asks for the end.

    Raises:
        Permanent: `invalid_models_file`, before anything is started.
    """
    data = settings.data.absolute()
    embedded = settings.nats_url is None
    found = programs(settings, inherited_environment())
    if how.only_broker:
        found = replace(found, services=())
    view = View((NATS, *found.names) if embedded else found.names, data, how.quiet)
    (data / broker.CLIENT_FILE).unlink(missing_ok=True)  # a killed system leaves its own behind
    scraping.write_targets(data, settings.metrics_host, found.metrics)
    supervisor = Supervisor(data, view.changed)
    stop, hurry = asyncio.Event(), asyncio.Event()
    _on_signals(stop, hurry)
    view.begin()
    began = monotonic()
    work = asyncio.create_task(_work(settings, found, supervisor, view, began))
    waiting = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        work.cancel()
        view.end()
        view.say("stopping ...")
        await supervisor.stop(hurry)
        await asyncio.gather(work, return_exceptions=True)  # what it raised while it ended is noise
        (data / TARGETS_FILE).unlink(missing_ok=True)
        (data / broker.CLIENT_FILE).unlink(missing_ok=True)
        view.say("stopped")


def _on_signals(stop: asyncio.Event, hurry: asyncio.Event) -> None:
    """The first signal stops in order, the second one at once."""

    def asked() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, asked)


async def _work(
    settings: LocalSettings, found: Programs, supervisor: Supervisor, view: View, began: float
) -> None:
    """Broker, then services, then keep watch."""
    nats_url, watches = await _broker(settings, found, supervisor, view)
    for program in found.services:
        supervisor.start(program)
    await under_watch(
        _until_ready(settings, found, nats_url, view, began), (supervisor.watch(), *watches)
    )


async def _until_ready(
    settings: LocalSettings, found: Programs, nats_url: str, view: View, began: float
) -> None:
    """Tell what is missing, and then where everything is."""
    if not found.services:
        view.end()
        view.say(f"the broker runs at {nats_url}, without any service; Ctrl-C stops it")
        return
    url = f"http://{settings.http_host}:{settings.http_port}"
    await wait_until_ready(url, SERVICES, view.ready)
    addresses = Addresses(url, nats_url, settings.data, embedded=settings.nats_url is None)
    view.up(addresses, monotonic() - began)


async def _broker(
    settings: LocalSettings, found: Programs, supervisor: Supervisor, view: View
) -> tuple[str, list[Watch]]:
    """Start the embedded server, or prepare the one that is given; its address, what watches it."""
    data, log = settings.data.absolute(), configure("supervisor", "error")
    if settings.nats_url is not None:
        await broker.ensure_topology(settings.address(), log)
        return settings.nats_url, [topology.keep(settings.address(), log)]
    identity = broker.identity_of(data)
    users = secured.prepare(data / "nats", identity.token, tls=settings.bus_tls)
    program = broker.program(data, identity, settings.sync, found.common, users.server_text())
    server = supervisor.start(program, broker.preparation(data, identity, log, users))
    await server.prepared.wait()
    view.ready(found.names)
    free, restart = partial(health.free_bytes, data), partial(server.restart, GRACE)
    watch = health.watch(identity.health_url, free, restart, view.say)
    return identity.url, [watch, secured.admit(identity.url, users, log)]


def main() -> int:
    """The exit status: 0 after an orderly stop, 1 with a message where it cannot run."""
    try:
        settings, how = read_settings(sys.argv[1:])
        with folder.locked(settings.data.absolute()):
            os.umask(0o077)  # of the programs, too: what they keep is nobody else's
            check(settings)
            asyncio.run(run(settings, how))
    except MillraceError as error:
        sys.stderr.write(f"millrace: {error.detail or error}\n")
        return 1
    except ValidationError as error:
        for one in error.errors():
            sys.stderr.write(f"millrace: MILLRACE_{str(one['loc'][0]).upper()}: {one['msg']}\n")
        return 1
    except TimeoutError:
        sys.stderr.write("millrace: the broker at MILLRACE_NATS_URL cannot be reached\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
