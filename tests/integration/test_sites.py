"""Two servers joined by a leaf node: what crosses it, what does not, what is caught up with.

Everything here, the link as well, speaks TLS where certificates can be made.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import nats.errors
import pytest
from nats.aio.client import Client

from infra.local import leaf, servers
from infra.local.broker import free_port
from infra.local.settings import inherited_environment
from infra.local.supervisor import Supervisor
from infra.nats.joining import Neighbours
from infra.nats.keys import ensure_site, read_seed
from infra.nats.links import Follower, Links
from infra.nats.topology import keep_joined
from infra.trial import copies
from infra.trial.link import Link
from services.sessions.adapters.eraser import Eraser
from shared.bus.connect import Bus, open_bus
from shared.bus.copies import Copied, Copies
from shared.bus.log import RunLog
from shared.bus.login import login_of
from shared.bus.service import running
from shared.bus.sites import fetch_tasks, keep_copies
from shared.bus.topology import ensure
from shared.contracts.base import SessionRef, encode
from shared.contracts.facts import Deleted, Done, ToolDone
from shared.contracts.log import MSG_ID, TASK_HEADER
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Transient
from shared.settings import Address
from shared.subjects import BLOBS, RUNS, blob_subject, session_filter, task_subject
from shared.subjects.sites import copies_filter, copy_filter, site_task_subject
from shared.telemetry import configure
from tests.integration.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
LOG = configure("test", "critical")
REF = SessionRef("default", "s1")
HUB, EDGE = "hub", "edge"
TLS = shutil.which("openssl") is not None


@dataclass
class Joined:
    """A connection to each site, and the link between them."""

    hub: Bus
    edge: Bus
    link: Link
    monitor: str
    as_site: Address
    """The hub, for whoever has the edge's key."""
    operator: Address
    """The hub, for whoever makes its streams."""

    async def linked(self) -> None:
        """Wait until the edge's server is connected to the hub's."""
        await until(lambda: leaves(self.monitor))


async def leaves(monitor: str) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return int((await client.get(f"{monitor}/leafz")).json().get("leafnodes", 0))
        except httpx.HTTPError:
            return 0  # it is not there yet


@pytest.fixture
async def sites(tmp_path: Path) -> AsyncIterator[Joined]:
    accepts, passes = free_port(), free_port()
    key = ensure_site(servers.keys_folder(tmp_path / HUB), EDGE, HUB)
    pem = servers.tls_folder(tmp_path / HUB) if TLS else None
    hub = servers.choose(tmp_path / HUB, 1, "1s", leaf.hub(HUB, accepts, pem), tls=TLS)
    at_edge = leaf.site(EDGE, read_seed(key), passes, pem)
    edge = servers.choose(tmp_path / EDGE, 1, "1s", at_edge, tls=TLS)
    link = Link(passes, accepts)
    supervisors = [Supervisor(one.data, lambda _change: None) for one in (hub, edge)]
    try:
        await link.mend()
        for one, supervisor in zip((hub, edge), supervisors, strict=True):
            for program in servers.programs(one, inherited_environment()):
                supervisor.start(program)
        monitor = hub.identities[0].health_url
        await until(lambda: leaves(monitor))  # else the servers look for their sources later
        await servers.deploy(hub, LOG, partial(keep_copies, sites=[EDGE]))
        await servers.deploy(edge, LOG, partial(fetch_tasks, site=EDGE, hub=HUB))
        async with open_bus(hub.address, "a", LOG) as a, open_bus(edge.address, "b", LOG) as b:
            as_site = Address(hub.address.url, None, key, tls=hub.address.tls)
            yield Joined(a, b, link, monitor, as_site, hub.address)
    finally:
        await link.cut()
        await asyncio.gather(*(one.stop() for one in supervisors))


async def test_sites_keep_their_own_work_and_catch_up(sites: Joined) -> None:
    """One pair of servers for all of it: each part leaves the sites joined."""
    await _facts_are_copied_and_tasks_do_not_cross(sites)
    await _a_task_for_the_edge_arrives_once(sites)
    await _nothing_else_crosses(sites)
    await _the_key_of_a_site_is_for_its_link_alone(sites)
    await _every_service_may_ensure_the_topology(sites)
    await _what_happened_meanwhile_is_caught_up_with(sites)
    await _the_program_that_makes_the_streams_follows_the_links(sites)
    await _what_the_edge_erased_is_erased_at_the_hub(sites)


async def append(bus: Bus, first: int, count: int) -> None:
    log = RunLog(bus)
    for step in range(first, first + count):
        await log.append(REF, ToolDone(task="t", step=step, call="c", name="x", result=str(step)))


async def same(sites: Joined) -> bool:
    return not await copies.differing(sites.edge, sites.hub, EDGE, [REF.session])


async def _facts_are_copied_and_tasks_do_not_cross(sites: Joined) -> None:
    await sites.edge.publish(task_subject(REF, "assistant"), b'{"input": "x"}')
    await append(sites.edge, 1, 3)
    await RunLog(sites.edge).append(REF, Done(task="t", status="completed"))
    await until(lambda: same(sites))
    (task, *_rest) = await RunLog(sites.edge).read(REF)
    (copy, *_rest) = await RunLog(sites.hub).read_filter(copy_filter(EDGE, REF))
    assert (copy.task, copy.fact) == (task.task, task.fact)
    assert await RunLog(sites.hub).read(REF) == []
    assert await RunLog(sites.hub).sessions("default") == []
    assert await RunLog(sites.hub).find_task("default", "t") is None
    found = await Copies(sites.hub).find("default", "t")
    assert found == Copied(EDGE, REF) == await Copies(sites.hub).find("default", "t", EDGE)
    assert await Copies(sites.hub).find("default", "t", "other") is None
    assert await Copies(sites.hub).find("stranger", "t") is None
    assert await Copies(sites.edge).find("default", "t") is None  # there it is no copy
    own = await RunLog(sites.edge).read(REF)
    copied = await Copies(sites.hub).read(found)
    assert [(one.task, one.fact) for one in copied] == [(one.task, one.fact) for one in own]


async def _a_task_for_the_edge_arrives_once(sites: Joined) -> None:
    subject = site_task_subject(EDGE, SessionRef("default", "s2"), "assistant")
    names = {MSG_ID: "t2", TASK_HEADER: "t2"}
    body = encode(TaskSubmitted(input="What is 17 * 23?"))
    for _ in range(2):
        await sites.hub.publish(subject, body, names)
    ref = SessionRef("default", "s2")
    await until(lambda: RunLog(sites.edge).read(ref))
    (found,) = await RunLog(sites.edge).read(ref)
    assert (found.task, found.rest, found.fact) == (
        "t2",
        "assistant",
        TaskSubmitted(input="What is 17 * 23?"),
    )
    assert await copies.count(sites.edge, session_filter(ref)) == 1  # in the session's partition


async def _nothing_else_crosses(sites: Joined) -> None:
    heard: list[str] = []

    async def hear(message: object) -> None:
        heard.append(getattr(message, "subject", ""))

    for bus in (sites.hub, sites.edge):
        await bus.nc.subscribe("probe.>", cb=hear)
        await bus.nc.flush()
    await sites.edge.send("probe.edge", b"")
    await sites.hub.send("probe.hub", b"")
    for bus in (sites.hub, sites.edge):
        await bus.nc.flush()
    await until(lambda: len(heard) >= 2)
    with pytest.raises(Transient):
        await sites.edge.request(f"$JS.{HUB}.API.STREAM.INFO.{RUNS}", b"", patience=1.0)
    with pytest.raises(Transient):
        await sites.hub.request(f"$JS.{EDGE}.API.STREAM.PURGE.{RUNS}", b"", patience=1.0)
    assert sorted(heard) == ["probe.edge", "probe.hub"]


async def _the_key_of_a_site_is_for_its_link_alone(sites: Joined) -> None:
    """Whoever takes it from the edge cannot speak to the hub as a client with it."""

    async def quiet(_error: Exception) -> None:
        """The error is the outcome."""

    options = login_of(sites.as_site, "edge").options()
    client = Client()
    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        await client.connect(sites.as_site.url, allow_reconnect=False, error_cb=quiet, **options)
    await client.close()


async def _every_service_may_ensure_the_topology(sites: Joined) -> None:
    """As each of them does when it connects; the table knows of no site."""
    for bus in (sites.hub, sites.edge):
        await ensure(bus)
        (source,) = (await bus.api(f"STREAM.INFO.{RUNS}"))["config"]["sources"]
        assert source["name"] in {RUNS, "SITE_edge"}
    await keep_copies(sites.hub, [EDGE])
    assert len((await sites.hub.api(f"STREAM.INFO.{RUNS}"))["config"]["sources"]) == 1


async def _what_happened_meanwhile_is_caught_up_with(sites: Joined) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        join = partial(keep_copies, sites=[EDGE])
        follower = Follower(sites.hub, Links(client, [sites.monitor]), join)
        assert await follower.look()  # a link that is there at the begin may have been mended
        assert not await follower.look()
        await _a_break_is_caught_up_with(sites, follower)
        await _sources_that_were_left_out_come_back(sites, follower)


async def _a_break_is_caught_up_with(sites: Joined, follower: Follower) -> None:
    await sites.link.cut()
    await append(sites.edge, 10, 50)
    blob = blob_subject(REF, "k", 0)
    await sites.edge.publish(blob, b"large")
    assert not await same(sites)
    await until(lambda: _apart(sites))
    assert not await follower.look()
    await sites.link.mend()
    await until(follower.look, 60)
    await until(lambda: same(sites), 60)
    await until(lambda: _held(sites.hub, blob), 60)


async def _apart(sites: Joined) -> bool:
    return not await leaves(sites.monitor)


async def _sources_that_were_left_out_come_back(sites: Joined, follower: Follower) -> None:
    """As a service would do that brings a stream up to its row while the sources are out."""
    left_out = await _without_sources(sites.hub)
    for _ in range(20):
        await follower.look()
    assert await _origins(sites.hub) == left_out
    await append(sites.edge, 100, 1)
    await until(lambda: same(sites), 60)


async def _without_sources(bus: Bus) -> list[object]:
    """Where they led."""
    found, config = await _origins(bus), (await bus.api(f"STREAM.INFO.{RUNS}"))["config"]
    await bus.api(f"STREAM.UPDATE.{RUNS}", {**config, "sources": []})
    return found


async def _origins(bus: Bus) -> list[object]:
    config = (await bus.api(f"STREAM.INFO.{RUNS}"))["config"]
    return [one["external"] for one in config.get("sources") or ()]


async def _the_program_that_makes_the_streams_follows_the_links(sites: Joined) -> None:
    """`topology --keep --copies-of edge` at the hub; whoever ends it waits until it has ended."""
    left_out = await _without_sources(sites.hub)
    others = Neighbours(copies=(EDGE,), monitors=(sites.monitor,))
    keeping = asyncio.create_task(keep_joined(sites.operator, LOG, others))

    async def joined() -> bool:
        return keeping.done() or await _origins(sites.hub) == left_out

    await until(joined, 60)
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    await append(sites.edge, 101, 1)
    await until(lambda: same(sites), 60)


async def _held(bus: Bus, blob: str) -> bool:
    state = (await bus.api(f"STREAM.INFO.{BLOBS}", {"subjects_filter": blob}))["state"]
    return bool(state.get("subjects"))


async def _what_the_edge_erased_is_erased_at_the_hub(sites: Joined) -> None:
    last = (await RunLog(sites.edge).read(REF))[-1].seq
    async with running(sites.hub, Eraser(sites.hub).consuming()):
        await RunLog(sites.edge).append(REF, Deleted(upto=last))
        await until(lambda: _only_the_deletion(sites.hub), 30)
    assert not await _held(sites.hub, blob_subject(REF, "k", 0))
    assert await copies.count(sites.hub, copies_filter(EDGE)) == 2  # that, and the task of s2


async def _only_the_deletion(hub: Bus) -> bool:
    found = await RunLog(hub).read_filter(copy_filter(EDGE, REF))
    return [one.kind for one in found] == ["deleted"]
