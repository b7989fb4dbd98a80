"""The permission table, tried on a real server: what each user must not do is refused."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import orjson
import pytest

from infra.nats.config import USERS
from shared.bus import topology
from shared.bus.connect import ApiError, Bus
from shared.bus.kv import KeyValue
from shared.errors import Broken, Permanent, Transient
from shared.subjects import (
    BUCKETS,
    CONSUMERS,
    KEYS,
    ROUTER,
    RUNS,
    STREAMS,
    TIMERS,
    TOOLS,
    TRACES,
    WORK,
    Consumer,
    sessions_consumer,
)
from shared.subjects.permissions import GRANTS, permissions_of, place_of
from tests.fakes.subjects import example_of, may_publish
from tests.integration import secured_server
from tests.integration.secured_server import Secured, denied_publications, denied_subscriptions

pytestmark = pytest.mark.integration
SERVICES = tuple(GRANTS)
STORED = (*(row.name for row in STREAMS), *(f"KV_{row.name}" for row in BUCKETS))
FACTS = {
    "tools": ("tool_done", "tool_failed", "tool_started.t1.1.1"),
    "inference": ("inferred", "infer_failed", "completed"),
    "router": ("infer_failed",),
    "ingress": ("refused", "completed"),
}
"""The kinds of facts that each writes; of the loop all are, and nobody else writes any."""
KINDS = ("task.assistant", "accepted.t1", "inferred", "infer_failed", "tool_done", "tool_failed",
         "tool_started.t1.1.1", "parked", "approved", "rejected", "steered", "cancelled", "timer",
         "done.t1", "forked", "noted", "deleted", "completed", "refused", "snapshot")  # fmt: skip


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    found = secured_server.start(tmp_path_factory.mktemp("secured"))
    yield found
    found.server.kill()


def counted(what: str, denied: set[str], tried: set[str]) -> None:
    """One line with `-s`, or where the test fails."""
    sys.stdout.write(f"\ndenied {len(denied & tried)} of {len(tried)} {what}")


def forbidden_to(user: str) -> set[str]:
    """What a service must not publish: other people's facts, writes and consumers, and every way

    to change a stream. Written down by intent, not derived from the table.
    """
    found = {f"$JS.API.STREAM.{call}.{stream}" for stream in STORED
             for call in ("CREATE", "UPDATE", "DELETE", "SNAPSHOT", "RESTORE")}  # fmt: skip
    found |= {"$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.INFO", "$SYS.REQ.SERVER.PING"}
    if user != "sessions":
        facts = FACTS.get(user, ())
        found |= {f"run.3.acme.s1.{kind}" for kind in KINDS if kind not in facts}
        found |= {f"$JS.API.STREAM.MSG.DELETE.{stream}" for stream in STORED}
        found |= {f"$JS.API.STREAM.PURGE.{stream}" for stream in (RUNS, WORK, "KV_keys")}
        found |= {"timer.3.acme.s1.t1.deadline", "$KV.checkpoints.sessions.3"}
    if user != "ingress":
        found |= {"$KV.keys.k1", "$KV.tenants.acme", "control.acme.s1.cancel", "docs.acme.c.d"}
        found |= {"direct.route", "retried.acme.s1.tools.WORK.1.1"}
    if user not in ("ingress", "sessions"):
        found |= {"tasks.acme.assistant.s1"}
    found |= {"ask.acme.read", "ask.acme.search"}
    if user not in ("sessions", "retrieval"):
        found |= {"_R_.x.y"}  # an answer to a tenant
    for row in (*CONSUMERS, TRACES, *map(sessions_consumer, range(16))):
        found |= _of_consumer(row) if user not in _owners(row) else set()
    others = (other for other in SERVICES if other != user)
    return found | {f"$KV.members.{other}.m1" for other in others}


def _owners(row: Consumer) -> tuple[str, ...]:
    named = {"router": "router", "tools": "tools", "retrieval": "retrieval", "ledger": "ledger",
             "traces": "tracing"}  # fmt: skip
    return (named.get(row.name, "sessions"),)


def _of_consumer(row: Consumer) -> set[str]:
    path = place_of(row).path
    calls = ("CREATE", "DELETE", "MSG.NEXT", "PAUSE", "RESET", "UNPIN")
    api = {f"$JS.API.CONSUMER.{call}.{path}" for call in calls}
    return {*api, f"$JS.ACK.{path}.1.2.3.4.5", f"$JS.API.CONSUMER.DURABLE.CREATE.{path}"}


def unheard_by(user: str) -> set[str]:
    """What a service must not subscribe to."""
    inboxes = {f"_INBOX.{other}.>" for other in USERS if other != user}
    found = {*inboxes, ">", "_INBOX.>", "*.>", "run.>", "tasks.>", "$JS.API.>", "$JS.ACK.>"}
    if user != "sessions":
        found |= {"ask.*.read", "ask.acme.at", "ask.>"}
    if user != "retrieval":
        found |= {"ask.*.search", "ask.*.*"}
    found |= {"$SYS.>", "$SYS.REQ.USER.AUTH", "$JS.EVENT.>", "timer.>", "blob.>", "dead.>"}
    if user != "ingress":
        found |= {"feed.>", "feed.*.acme.>", "$KV.keys.>", "$KV.tenants.>"}
    return found


@pytest.mark.parametrize("user", SERVICES)
async def test_what_a_service_must_not_publish_is_refused(secured: Secured, user: str) -> None:
    forbidden = forbidden_to(user)
    async with secured.connected(user) as bus:
        denied = await denied_publications(bus, forbidden)
    counted("publications", denied, forbidden)
    assert denied == forbidden


@pytest.mark.parametrize("user", SERVICES)
async def test_what_is_another_ones_is_refused(secured: Secured, user: str) -> None:
    """Every subject that the table gives to anybody, but not to this one."""
    given = {example_of(one) for other in SERVICES for one in permissions_of(other).publish}
    foreign = {subject for subject in given if not may_publish(user, subject)}
    async with secured.connected(user) as bus:
        denied = await denied_publications(bus, foreign)
    counted("other services' subjects", denied, foreign)
    assert denied == foreign
    assert len(foreign) > 40


@pytest.mark.parametrize("user", SERVICES)
async def test_what_a_service_must_not_hear_is_refused(secured: Secured, user: str) -> None:
    forbidden = unheard_by(user)
    async with secured.connected(user) as bus:
        denied = await denied_subscriptions(bus, forbidden)
    counted("subscriptions", denied, forbidden)
    assert denied == forbidden


async def test_a_refusal_is_an_error_at_once_and_names_the_subject(secured: Secured) -> None:
    async with secured.connected("tools") as bus:
        with pytest.raises(Broken) as caught:
            await bus.publish("run.3.acme.s1.done.T1", b"{}", patience=600)
        assert caught.value.code == "permission_denied"
        assert "run.3.acme.s1.done.T1" in caught.value.detail
        assert "tools" in caught.value.detail
        with pytest.raises(Broken, match="permission_denied"):
            await bus.request("ledger.tasks", b"{}", patience=600)
        with pytest.raises(Broken, match="permission_denied"):
            await KeyValue(bus, KEYS).get("k1")
        assert bus.denials.counts == {"publish": 3}


async def test_the_services_work_on_what_is_theirs(secured: Secured) -> None:
    async with secured.connected("tools") as tools, secured.connected("sessions") as sessions:
        await topology.ensure(tools)
        await topology.ensure_consumer(tools, TOOLS)
        await sessions.publish("work.tool.add", b"{}")
        await tools.publish("run.3.acme.s1.tool_done", b"{}")
        assert not tools.denials.counts
        assert not sessions.denials.counts


async def test_a_star_among_consumers_does_not_reach_the_named_ones(secured: Secured) -> None:
    """A worker makes consumers of its own names, but not the router's."""
    async with secured.connected("inference") as bus:
        own = Consumer("infer-w-x", WORK, ("work.infer.x.w.x",), memory=True)
        await topology.ensure_consumer(bus, own)
        await topology.delete_consumer(bus, own)
        with pytest.raises(Broken, match="permission_denied"):
            await topology.ensure_consumer(bus, ROUTER)


async def test_a_service_waits_for_streams_that_nobody_made_yet(secured: Secured) -> None:
    row = next(bucket for bucket in BUCKETS if bucket.name == "tools")
    async with secured.connected("admin") as admin, secured.connected("tools") as bus:
        await admin.api(f"STREAM.DELETE.KV_{row.name}")
        with pytest.raises(Transient, match="not_deployed"):
            await topology.ensure(bus)
        await topology.ensure(admin)
        await topology.ensure(bus)


# -- schedules ---------------------------------------------------------------------------------


def _schedule(target: str) -> dict[str, str]:
    return {"Nats-Schedule": "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target": target}


@pytest.mark.parametrize("user", ["sessions", "ingress"])
@pytest.mark.parametrize(
    "target", ["run.3.acme.s1.done.t1", "$KV.keys.k1", "work.tool.add", "tasks.acme.a.s1"]
)
async def test_a_schedule_cannot_target_another_stream(
    secured: Secured, user: str, target: str
) -> None:
    """A schedule is published by the server, whose rights have no end; that its target must be in

    the schedule's own stream is what keeps forged facts out. TIMERS therefore holds nothing else.
    """
    async with secured.connected(user) as bus:
        subject = "timer.3.acme.s1.~.forget"
        with pytest.raises(Permanent, match="publish_refused"):
            await bus.publish(subject, b"{}", _schedule(target))
    async with secured.connected("admin") as admin:
        assert await _holds(admin, TIMERS, subject) == 0


@pytest.mark.parametrize("user", ["tools", "inference", "router", "retrieval", "ledger", "tracing"])
async def test_nobody_else_sets_timers(secured: Secured, user: str) -> None:
    async with secured.connected(user) as bus:
        with pytest.raises(Broken, match="permission_denied"):
            await bus.publish("timer.3.acme.s1.t1.x", b"{}", _schedule("fired.3.acme.s1.t1.x"))


@pytest.mark.parametrize("user", SERVICES)
async def test_a_schedule_in_another_stream_is_no_schedule(secured: Secured, user: str) -> None:
    """Where a service may publish elsewhere, that stream knows no schedules."""
    own = {"sessions": "run.3.acme.s1.noted", "ingress": "tasks.acme.assistant.s9"}
    subject = own.get(user, "$KV.memory.acme.s1.x" if user == "tools" else "")
    if not subject:
        subject = {"inference": "run.3.acme.s1.inferred", "router": "work.route"}.get(
            user, f"dead.acme.s1.{'traces' if user == 'tracing' else user}.RUNS.1.1"
        )
    async with secured.connected(user) as bus:
        with pytest.raises(Permanent, match="publish_refused"):
            await bus.publish(subject, b"{}", _schedule("run.3.acme.s1.done.forged"))
    async with secured.connected("admin") as admin:
        assert await _holds(admin, RUNS, "run.3.acme.s1.done.forged") == 0


async def _holds(bus: Bus, stream: str, subject: str) -> int:
    await asyncio.sleep(0.2)  # a schedule in the past would have fired by then
    info = await bus.api(f"STREAM.INFO.{stream}", {"subjects_filter": subject})
    return sum((info["state"].get("subjects") or {}).values())


# -- tenants -----------------------------------------------------------------------------------

FOREIGN = (
    *("tasks.other.assistant.s1", "tasks.acme2.assistant.s1", "tasks.acme.assistant.s1.x"),
    *("ask.other.read", "ask.acme2.read", "ask.acme.read.x", "ask.acme", "_R_.x.y"),
    *("control.other.s1.cancel", "run.3.acme.s1.done.t1", "run.3.other.s1.done.t1"),
    *("feed.3.acme.s1.done.t1", "tokens.acme.s1.t1", "docs.acme.c.d", "blob.acme.s1.k.0"),
    *(
        "timer.3.acme.s1.t1.x",
        "cancel.acme.s1.t1",
        "replay.acme.s1",
        "ledger.tasks",
        "direct.route",
    ),
    *("retrieval.search", "work.route", "dead.acme.s1.x.RUNS.1.1", "health.sessions"),
    *("$KV.keys.k1", "$KV.agents.acme.evil", "$KV.memory.acme.s1.x", "_INBOX.sessions.x"),
    *("$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.RUNS", "$JS.API.STREAM.LIST"),
    *("$JS.API.DIRECT.GET.RUNS", "$JS.API.DIRECT.GET.RUNS.run.3.other.s1.done.t1"),
    *("$JS.API.DIRECT.GET.KV_keys", "$JS.API.DIRECT.GET.KV_keys.$KV.keys.k1"),
    *("$JS.API.STREAM.MSG.GET.RUNS", "$JS.API.STREAM.MSG.GET.KV_keys", "$JS.API.STREAM.PURGE.RUNS"),
    *("$JS.API.CONSUMER.CREATE.RUNS", "$JS.API.CONSUMER.CREATE.RUNS.mine.run.*.acme.>"),
    *("$JS.API.CONSUMER.MSG.NEXT.RUNS.ledger", "$JS.API.STREAM.CREATE.MINE", "$JS.ACK.RUNS.x.1"),
)
UNHEARD = (
    *(">", "feed.>", "feed.*.other.>", "run.>", "run.*.other.>", "tokens.other.>", "tasks.>"),
    *(
        "tasks.acme.>",
        "control.>",
        "ask.>",
        "ask.acme.read",
        "ask.*.read",
        "$KV.>",
        "$JS.>",
        "$SYS.>",
        "_INBOX.>",
        "_INBOX.tenant-other.>",
    ),
    *("_INBOX.sessions.>", "feed.*.*.s1.>"),
)


async def test_a_tenants_client_reaches_nothing_else(secured: Secured) -> None:
    async with secured.connected("tenant-acme") as bus:
        sent = await denied_publications(bus, FOREIGN)
        heard = await denied_subscriptions(bus, UNHEARD)
    counted("a tenant's attempts", sent | heard, {*FOREIGN, *UNHEARD})
    assert sent == set(FOREIGN)
    assert heard == set(UNHEARD)


async def test_a_tenants_client_submits_and_hears_its_own_alone(secured: Secured) -> None:
    heard: list[str] = []
    enough = asyncio.Event()

    async def receive(message) -> None:
        heard.append(message.subject)
        if len(heard) == 5:  # the task, a fact and a delta, each where it is published and fed
            enough.set()

    async with secured.connected("tenant-acme") as acme, secured.connected("admin") as admin:
        for subject in ("feed.*.acme.>", "run.*.acme.>", "tokens.acme.*.*"):
            await acme.nc.subscribe(subject, cb=receive)
        await acme.nc.flush()
        ack = await acme.publish("tasks.acme.assistant.s1", b'{"input": "hello"}')
        assert ack.seq > 0
        for tenant in ("acme", "other"):
            await admin.publish(f"run.3.{tenant}.s1.noted", b"{}")
            await admin.nc.publish(f"tokens.{tenant}.s1.t1", b"{}")
        await asyncio.wait_for(enough.wait(), 10)
        await asyncio.sleep(0.1)
    assert {subject.split(".")[2] for subject in heard if subject[0] in "fr"} == {"acme"}
    assert "tokens.acme.s1.t1" in heard
    assert not [subject for subject in heard if "other" in subject]


@pytest.mark.parametrize(
    "reply", ["$KV.keys.forged", "run.3.acme.s1.done.forged", "docs.other.c.d"]
)
async def test_an_answer_cannot_be_sent_to_where_a_tenant_may_not_write(
    secured: Secured, reply: str
) -> None:
    """The server publishes an acknowledgement wherever the question says, and asks for no right:

    within one account this would write into any stream (decision record 0040).
    """
    async with secured.connected("tenant-acme") as acme, secured.connected("admin") as admin:
        await acme.nc.publish("tasks.acme.assistant.s1", b"{}", reply=reply)
        await acme.publish("tasks.acme.assistant.s1", b"{}")  # whatever came before is over
        for stream in (RUNS, "KV_keys", "DOCS"):
            assert await _holds(admin, stream, reply) == 0


async def test_two_tenants_do_not_see_each_others_answers(secured: Secured) -> None:
    async with secured.connected("tenant-acme") as acme, secured.connected("tenant-other") as other:
        await acme.publish("tasks.acme.assistant.s1", b"{}")
        await other.publish("tasks.other.assistant.s1", b"{}")
        with pytest.raises(Broken, match="permission_denied"):
            await other.publish("tasks.acme.assistant.s1", b"{}")


async def test_the_operator_may_do_everything(secured: Secured) -> None:
    async with secured.connected("admin") as bus:
        names = (await bus.api("STREAM.NAMES"))["streams"]
        assert set(STORED) <= set(names)
        with pytest.raises(ApiError):
            await bus.api("STREAM.INFO.NONE")
        assert not bus.denials.counts


async def test_monitoring_sees_the_server_and_no_stream(secured: Secured) -> None:
    async with secured.connected("monitor") as bus:
        found = orjson.loads(await bus.request("$SYS.REQ.SERVER.PING.JSZ", b"{}"))
        assert found["data"]["streams"] >= len(STORED)
        with pytest.raises(Transient):
            await bus.publish("tasks.acme.assistant.s1", b"{}", patience=0.5)
