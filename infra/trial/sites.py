"""`python -m infra.trial.sites`: a hub and an edge, joined by a leaf node that is cut and mended.

Exits 0 only if tasks are served where they are published, the edge goes on while it is cut off,
afterwards the edge has done what waited for it, and the hub has an equal copy of its sessions, and
no service asked for more than its user may do.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from infra.local import folder, leaf, servers
from infra.local.__main__ import check
from infra.local.broker import free_port
from infra.local.servers import Join, Servers
from infra.local.settings import LocalSettings
from infra.local.site import Site
from infra.nats.keys import ensure_site, read_seed
from infra.trial import copies, placement
from infra.trial.asking import again, billed, ended, facts_of, judged, submit
from infra.trial.link import Link
from infra.trial.questions import AGENT, Question, products, workers
from infra.trial.running import bounded, carry_out, check_refusals, environment, settings_of
from shared.bus.connect import Bus, open_bus
from shared.bus.sites import fetch_tasks, keep_copies
from shared.client import Millrace
from shared.clock import mint_id, monotonic
from shared.contracts.base import SessionRef, encode
from shared.contracts.log import MSG_ID, TASK_HEADER
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Broken
from shared.subjects import RUNS
from shared.subjects.sites import site_task_subject
from shared.telemetry import configure

HUB, EDGE = "hub", "edge"
_SYNC = "always"
_WITHIN = 240.0
_SESSIONS, _TASKS = 4, 8


@dataclass(frozen=True, slots=True)
class Pair:
    """Both sites, and the link between them."""

    hub: Site
    edge: Site
    link: Link


@dataclass(frozen=True, slots=True)
class Clients:
    """A client of each site."""

    hub: Millrace
    edge: Millrace


def read_options(arguments: Sequence[str]) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="sites", description=__doc__)
    parser.add_argument("--stay", action="store_true", help="keep them running until Ctrl-C")
    parser.add_argument("--port", type=int, help="of the hub; the edge's is the next one")
    parser.add_argument("--data", type=Path, help="data folder (MILLRACE_DATA/sites)")
    return parser.parse_args(arguments)


def made(data: Path, port: int, console: Console, *, tls: bool) -> Pair:
    """The sites of a data folder, not started yet."""
    accepts, passes = free_port(), free_port()
    key = ensure_site(servers.keys_folder(data / HUB), EDGE, HUB)
    pem = servers.tls_folder(data / HUB) if tls else None
    at_hub = servers.choose(data / HUB, 1, _SYNC, leaf.hub(HUB, accepts, pem), tls=tls)
    joined = leaf.site(EDGE, read_seed(key), passes, pem)
    at_edge = servers.choose(data / EDGE, 1, _SYNC, joined, tls=tls)
    hub = _site(at_hub, port, partial(keep_copies, sites=[EDGE]), console)
    edge = _site(at_edge, port + 1, partial(fetch_tasks, site=EDGE, hub=HUB), console)
    return Pair(hub, edge, Link(passes, accepts))


def _site(found: Servers, port: int, join: Join, console: Console) -> Site:
    name = f"{found.joined.domain}-nano"
    settings = settings_of(
        data=found.data,
        http_port=port,
        nats_url=found.address.url,
        nats_creds=found.keys,
        stream_replicas=1,
        replicas="",
        worker_id=name,
    )
    check(settings)
    ours = {**environment(), "MILLRACE_WORKER_ID": name}
    return Site(settings, found, ours, console.print, join=join)


async def run(options: argparse.Namespace, console: Console) -> int:
    """The exit status."""
    default = LocalSettings()
    data = (options.data or default.data / "sites").absolute()
    with folder.locked(data):
        pair = made(data, options.port or default.http_port, console, tls=default.bus_tls)
        try:
            await bounded(_trial(pair, console))
            if options.stay:
                console.print(f"They stay until Ctrl-C: {pair.hub.url} and {pair.edge.url}")
                await asyncio.Event().wait()
        finally:
            console.print("stopping ...")
            await pair.link.cut()
            await asyncio.gather(pair.hub.stop(), pair.edge.stop())
    return 0


async def _trial(pair: Pair, console: Console) -> None:
    began = monotonic()
    await pair.link.mend()
    await pair.hub.start()
    await pair.edge.start()
    console.print(f"two sites are ready after {monotonic() - began:.1f} s")
    console.print(f"  {HUB}   {pair.hub.url}, {pair.hub.address}")
    console.print(f"  {EDGE}  {pair.edge.url}, {pair.edge.address}")
    for one in (pair.hub, pair.edge):
        await placement.check_users(one.servers)
    console.print("  every service is connected as its own user, and the edge's link as one more")
    async with AsyncExitStack() as stack:
        found = [
            Millrace(await stack.enter_async_context(open_bus(one.address, "trial", _LOG)))
            for one in (pair.hub, pair.edge)
        ]
        await _show(pair, Clients(*found), console)
    check_refusals(one.servers.data for one in (pair.hub, pair.edge))
    console.print("  the bus refused no service anything")


_LOG = configure("trial", "critical")


async def _show(pair: Pair, at: Clients, console: Console) -> None:
    name = mint_id("x")[-8:]
    own, served, sent = (
        products(f"{what}-{name}", 2 * n, 2, 2) for n, what in enumerate(("own", "served", "sent"))
    )
    console.print("\n[bold]Joined[/]")
    await submit(at.hub, own)
    await submit(at.edge, served)
    await send(at.hub.bus, sent)
    await _served(at.hub, own, HUB, console, "published at the hub")
    await _served(at.edge, served, EDGE, console, "published at the edge")
    await _served(at.edge, sent, EDGE, console, "published at the hub for the edge")
    alone, later = await _cut_off(pair, at, name, console)
    await _caught_up(pair, at, later, console)
    everything = (*served, *sent, *alone, *later)
    await _compare(at, everything, console)
    await _forget(at, served[0].session, console)


async def send(hub: Bus, questions: Sequence[Question]) -> None:
    """Publish tasks at the hub for the edge: stored there until the edge fetches them."""
    for one in questions:
        subject = site_task_subject(EDGE, SessionRef("default", one.session), AGENT)
        names = {MSG_ID: one.task, TASK_HEADER: one.task}
        body = encode(TaskSubmitted(input=one.text))
        await again(partial(hub.publish, subject, body, names))


async def _served(
    at: Millrace, questions: Sequence[Question], site: str, console: Console, what: str
) -> None:
    """Raises `Broken` where another site's worker has had a hand in it."""
    await ended(at, questions, len(questions), _WITHIN)
    found = workers(one for own in (await facts_of(at, questions)).values() for one in own)
    console.print(f"  {len(questions)} tasks {what}: served by {', '.join(sorted(found))}")
    if found != {f"{site}-nano"}:
        raise Broken(f"tasks {what} were served by {sorted(found)}")


async def _cut_off(
    pair: Pair, at: Clients, name: str, console: Console
) -> tuple[Sequence[Question], Sequence[Question]]:
    """What ran at the edge meanwhile, and what waits for it at the hub."""
    console.print("\n[bold]The link is cut[/]")
    await pair.link.cut()
    alone = products(f"alone-{name}", 6, _TASKS, _SESSIONS)
    later = products(f"later-{name}", 20, _TASKS, _SESSIONS)
    await submit(at.edge, alone)
    await send(at.hub.bus, later)
    await _served(at.edge, alone, EDGE, console, "published at the edge")
    known = await copies.of_sessions(at.hub.bus, EDGE, {one.session for one in alone})
    waiting = await facts_of(at.edge, later)
    missing = sum(not one for one in waiting.values())
    console.print(f"  of these the hub knows {sum(map(len, known.values()))} facts")
    console.print(
        f"  {len(later)} tasks for the edge are stored at the hub: the edge knows of none"
    )
    if any(known.values()) or missing != len(waiting):
        raise Broken("something crossed the link that is cut")
    return alone, later


async def _caught_up(pair: Pair, at: Clients, later: Sequence[Question], console: Console) -> None:
    console.print("\n[bold]The link is back[/]")
    began = monotonic()
    await pair.link.mend()
    await _served(at.edge, later, EDGE, console, "that waited at the hub for the edge")
    console.print(f"  that took {monotonic() - began:.1f} s")
    await copies.complete(at.edge.bus, at.hub.bus, EDGE, _WITHIN)
    console.print(f"  the hub has everything {monotonic() - began:.1f} s after the link was back")


async def _compare(at: Clients, asked: Sequence[Question], console: Console) -> None:
    """Every session of the edge against its copy, its replay, and both ledgers.

    Raises:
        Broken: one differs.
    """
    console.print("\n[bold]Compared[/]")
    found = await judged(at.edge, asked)
    names = {question.session for question in asked}
    every = set(await at.edge.sessions())
    differing = await copies.differing(at.edge.bus, at.hub.bus, EDGE, every)
    settled = [await again(partial(placement.end_of, one.bus, RUNS)) for one in (at.hub, at.edge)]
    bills = [
        await billed(one, names, end) for one, end in zip((at.hub, at.edge), settled, strict=True)
    ]
    console.print(
        f"  {len(every)} sessions of the edge against the hub's copies: {len(differing)} differ\n"
        f"  {found.questions} tasks ended once with the right answer, and replay at the edge: "
        f"{len(found.faults)} faults\n"
        f"  tokens: {found.tokens} in the edge's log, {bills[1]} in its ledger, "
        f"{bills[0]} in the hub's"
    )
    if found.faults or differing:
        raise Broken("; ".join((*found.faults, *differing)))
    if set(bills) != {found.tokens}:
        raise Broken("the ledgers differ from the log")


async def _forget(at: Clients, session: str, console: Console) -> None:
    """A session that is deleted at the edge is erased at the hub as well."""
    await at.edge.session(session).delete(by="trial")
    await copies.erased(at.hub.bus, EDGE, session, _WITHIN)
    console.print(f"  {session} was deleted at the edge, and is erased at the hub")


def main() -> int:
    """Run it."""
    options = read_options(sys.argv[1:])
    return carry_out("sites", partial(run, options, Console(highlight=False)))


if __name__ == "__main__":
    sys.exit(main())
