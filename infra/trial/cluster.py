"""`python -m infra.trial.cluster`: three servers, two of each service, and the loss of a server.

Exits 0 only if the demo's answers are right, nothing that was acknowledged was lost or done twice
while the server that leads RUNS was killed under load, and no service asked for more than its user
may do.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from infra.local import folder, postgres, servers
from infra.local.__main__ import check
from infra.local.settings import ROOT, LocalSettings
from infra.local.site import Site
from infra.trial import placement
from infra.trial.asking import again, billed, ended, facts_of, judged, submit
from infra.trial.questions import Question, products, underway
from infra.trial.running import bounded, carry_out, check_refusals, environment, settings_of
from shared.bus.connect import open_bus
from shared.client import Millrace
from shared.clock import mint_id, monotonic
from shared.errors import Broken, Transient
from shared.subjects import RUNS
from shared.telemetry import configure

SERVERS = 3
SYNC = "1s"
"""A fact is acknowledged when two servers have it; see infra/nats/cluster.conf."""
TWO_OF_EACH = "sessions=2,router=2,inference=2,tools=2,ingress=2"
_SESSIONS, _BEFORE, _DURING = 8, 48, 16
"""Tasks of a session run one after the other: six of each session are under way for a while."""
_DEMO_WITHIN, _WITHIN = 300.0, 240.0


def replicas(*, sqlite: bool) -> str:
    """Two of each service, but for what belongs to one process.

    An index of Milvus Lite is a file of one process, and so there is one *retrieval*. Two ledgers
    share a PostgreSQL, not a SQLite. Two workers with the small model fit two cores.
    """
    return TWO_OF_EACH if sqlite else f"{TWO_OF_EACH},ledger=2"


def read_options(arguments: Sequence[str]) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="cluster", description=__doc__)
    parser.add_argument("--sqlite", action="store_true", help="SQLite instead of PostgreSQL")
    parser.add_argument("--stay", action="store_true", help="keep it running until Ctrl-C")
    parser.add_argument("--port", type=int, help="of the first ingress (MILLRACE_HTTP_PORT)")
    parser.add_argument("--data", type=Path, help="data folder (MILLRACE_DATA/cluster)")
    return parser.parse_args(arguments)


async def run(options: argparse.Namespace, console: Console) -> int:
    """The exit status."""
    default = LocalSettings()
    data = (options.data or default.data / "cluster").absolute()
    with folder.locked(data):
        database = None if options.sqlite else postgres.prepared(data)
        found = servers.choose(data, SERVERS, SYNC, tls=default.bus_tls)
        settings = settings_of(
            data=data,
            http_port=options.port or default.http_port,
            nats_url=found.address.url,
            nats_creds=found.keys,
            stream_replicas=SERVERS,
            replicas=replicas(sqlite=options.sqlite),
        )
        check(settings)
        site = Site(settings, found, environment(), console.print, database)
        try:
            await bounded(_trial(site, console))
            if options.stay:
                console.print(_how_to_use(site))
                await asyncio.Event().wait()
        finally:
            console.print("stopping ...")
            await site.stop()
    return 0


def _how_to_use(site: Site) -> str:
    return (
        f"It stays until Ctrl-C: {site.url} and, with its data folder,\n"
        f'  MILLRACE_DATA={site.settings.data} .venv/bin/millrace run "What is 17 * 23?"'
    )


async def _trial(site: Site, console: Console) -> None:
    began = monotonic()
    console.print(f"starting {len(site.names)} programs: {', '.join(site.names)}")
    await site.start()
    console.print(f"ready after {monotonic() - began:.1f} s: {site.url}, logs in {_logs(site)}")
    log = configure("trial", "critical")
    async with open_bus(site.address, "trial", log) as bus:
        await placement.whole_again(bus, _WITHIN)
        await placement.check_users(site.servers)
        console.print("every service is connected as its own user")
        await _show(site, console, Millrace(bus))
        await _demo(site, console)
        await _loss(site, console, Millrace(bus))
        await _show(site, console, Millrace(bus))
    check_refusals([site.servers.data])
    console.print("and the bus refused none of them anything")


def _logs(site: Site) -> Path:
    return site.servers.data / "logs"


async def _show(site: Site, console: Console, millrace: Millrace) -> None:
    console.print(placement.stream_table(await again(partial(placement.streams, millrace.bus))))
    console.print(placement.connection_table(await placement.connections(site.servers)))


async def _demo(site: Site, console: Console) -> None:
    """As anybody would run it against this cluster.

    Raises:
        Broken: `demo_failed`.
    """
    ours = {
        **environment(),
        "MILLRACE_DATA": str(site.settings.data),
        "MILLRACE_HTTP_PORT": str(site.settings.http_port),
    }
    console.print("[bold]The demo[/]")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra.demo", cwd=ROOT, env=ours
    )
    try:
        code = await asyncio.wait_for(process.wait(), _DEMO_WITHIN)
    except TimeoutError as error:
        raise Transient(
            "demo_timeout", f"the demo was not through in {_DEMO_WITHIN:g} s"
        ) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code != 0:
        raise Broken(f"the demo ended with {code}")


async def _loss(site: Site, console: Console, millrace: Millrace) -> None:
    """Kill the server that leads RUNS while tasks run; nothing may be lost or done twice.

    Raises:
        Broken: something was.
    """
    name = mint_id("loss")[:12]
    before = products(name, 0, _BEFORE, _SESSIONS)
    during = products(name, _BEFORE, _DURING, _SESSIONS)
    asked = (*before, *during)
    leader = await again(partial(placement.leader_of, millrace.bus, RUNS))
    await asyncio.gather(*(submit(millrace, [one]) for one in before))
    last, began = await again(partial(placement.end_of, millrace.bus, RUNS)), monotonic()
    await site.lose(leader)
    console.print(f"\n[bold]{leader} led RUNS, and was killed right after {_BEFORE} submissions[/]")
    longest = await submit(millrace, during)
    console.print(f"{len(during)} more tasks acknowledged without it; longest wait {longest:.1f} s")
    await ended(millrace, asked, len(asked), _WITHIN)
    console.print(f"all {len(asked)} tasks ended {monotonic() - began:.1f} s after the loss")
    console.print(f"RUNS is led by {await again(partial(placement.leader_of, millrace.bus, RUNS))}")
    site.recover(leader)
    whole = await placement.whole_again(millrace.bus, _WITHIN)
    console.print(f"{leader} is back and holds everything again after {whole:.1f} s")
    facts = await facts_of(millrace, before)
    running = underway(before, (one for own in facts.values() for one in own), last)
    console.print(f"{running} tasks were under way when it was lost")
    await _judge(console, millrace, asked)


async def _judge(console: Console, millrace: Millrace, asked: Sequence[Question]) -> None:
    found = await judged(millrace, asked)
    sessions = sorted({question.session for question in asked})
    settled = await again(partial(placement.end_of, millrace.bus, RUNS))
    bill = await billed(millrace, sessions, settled)
    console.print(
        f"in the log: {found.facts} facts of {found.questions} tasks in {len(sessions)} sessions, "
        f"each ended once with the right answer, no step done twice: {len(found.faults)} faults\n"
        f"replay: the present code decides the same in all {len(sessions)} sessions\n"
        f"ledger: {bill} tokens; log: {found.tokens} tokens"
    )
    if found.faults:
        raise Broken("; ".join(found.faults))
    if bill != found.tokens:
        raise Broken(f"the ledger has {bill} tokens, the log {found.tokens}")


def main() -> int:
    """Run it."""
    options = read_options(sys.argv[1:])
    return carry_out("cluster", partial(run, options, Console(highlight=False)))


if __name__ == "__main__":
    sys.exit(main())
