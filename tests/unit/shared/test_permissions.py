"""The permission table: complete, without overlaps where there must be none, and narrow."""

import pytest

from infra.local.plan import SERVICES, TRACING
from shared.errors import Permanent
from shared.subjects import (
    BUCKETS,
    CONSUMERS,
    FACT_KINDS,
    PARTITIONS,
    STREAMS,
    TRACES,
    sessions_consumer,
)
from shared.subjects.permissions import (
    ADMIN,
    GRANTS,
    permissions_of,
    place_of,
    tenant_access,
    tenant_permissions,
)
from tests.fakes.subjects import covers, may_publish

ROWS = (*CONSUMERS, TRACES, *map(sessions_consumer, range(PARTITIONS)))
STORED = {row.name for row in STREAMS} | {f"KV_{row.name}" for row in BUCKETS}


def test_every_service_has_a_row_and_nobody_else() -> None:
    assert set(GRANTS) == {*SERVICES, TRACING}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_consumer_of_the_table_has_one_owner(row) -> None:
    """The one service that may make it, pull from it and acknowledge."""
    path = place_of(row).path
    for call in ("CONSUMER.MSG.NEXT", "CONSUMER.CREATE", "CONSUMER.DELETE"):
        owners = [user for user in GRANTS if may_publish(user, f"$JS.API.{call}.{path}")]
        assert len(owners) == 1, call
    assert [user for user in GRANTS if may_publish(user, f"$JS.ACK.{path}.1.2.3.4.5")] == owners


@pytest.mark.parametrize("user", GRANTS)
@pytest.mark.parametrize(
    "call", ["STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.NAMES"]
)
def test_no_service_makes_or_removes_streams(user: str, call: str) -> None:
    for stream in STORED:
        assert not may_publish(user, f"$JS.API.{call}.{stream}")
    assert not may_publish(user, f"$JS.API.{call}")


@pytest.mark.parametrize("kind", FACT_KINDS, ids=lambda kind: kind.token)
def test_every_fact_has_a_writer(kind) -> None:
    subject = f"run.3.acme.s1.{kind.token}" + ".x" * len(kind.unique)
    assert [user for user in GRANTS if may_publish(user, subject)]


def test_only_the_loop_ends_a_task() -> None:
    assert [user for user in GRANTS if may_publish(user, "run.3.acme.s1.done.t1")] == ["sessions"]


@pytest.mark.parametrize("user", GRANTS)
def test_inboxes_are_private(user: str) -> None:
    heard = permissions_of(user).subscribe
    for other in (*GRANTS, ADMIN, "tenant-acme"):
        assert covers(heard, f"_INBOX.{other}.x.y") == (other == user)


def test_only_the_operator_and_the_edge_write_keys() -> None:
    assert [user for user in GRANTS if may_publish(user, "$KV.keys.k1")] == ["ingress"]


def test_a_message_of_the_table_names_only_streams_that_exist() -> None:
    for grant in GRANTS.values():
        assert set(grant.streams) <= STORED


def test_the_undertaker_can_quote_from_every_stream() -> None:
    for row in STREAMS:
        assert may_publish("sessions", f"$JS.API.DIRECT.GET.{row.name}")


@pytest.mark.parametrize("subject", ["work.route", "work.tool.add", "docs.a.c.d", "tasks.a.b.c"])
def test_the_edge_can_send_a_dead_letter_again(subject: str) -> None:
    assert may_publish("ingress", subject)


def test_who_is_not_in_the_table_is_an_error() -> None:
    with pytest.raises(Permanent, match="unknown_user"):
        permissions_of("stranger")


def test_a_tenant_reaches_its_own_subjects_alone() -> None:
    mine, heard = tenant_permissions("acme").publish, tenant_permissions("acme").subscribe
    assert covers(mine, "tasks.acme.assistant.s1")
    assert covers(heard, "feed.3.acme.s1.done.t1")
    for subject in (
        *(
            "tasks.other.assistant.s1",
            "control.other.s1.cancel",
            "ask.other.read",
            "run.3.acme.s1.done.t1",
        ),
        *("$JS.API.DIRECT.GET.RUNS", "$JS.API.STREAM.INFO.RUNS", "$KV.keys.k1", "docs.acme.c.d"),
    ):
        assert not covers(mine, subject), subject
    for subject in ("feed.3.other.s1.done.t1", "run.3.other.s1.x", "_INBOX.sessions.x", "feed.3"):
        assert not covers(heard, subject), subject


@pytest.mark.parametrize("name", ["*", "a.b", ">", "", "_shared", "a b", "x" * 65])
def test_a_tenants_name_cannot_widen_its_subjects(name: str) -> None:
    with pytest.raises(Permanent, match="invalid_name"):
        tenant_access(name)
