"""What a hub keeps of a site, and what may cross the link between them."""

from __future__ import annotations

import pytest

from shared.contracts.base import SessionRef, encode
from shared.contracts.facts import Deleted, Done
from shared.contracts.log import StoredFact, read_fact
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Permanent
from shared.subjects import BLOBS, PARTITIONS, RUNS, STREAMS, sites
from shared.subjects.sites import SOURCE_HEADER

REF = SessionRef("acme", "s1")
TASK = encode(TaskSubmitted(input="x"))
COPIED = {SOURCE_HEADER: "RUNS:n1VdnVvB 41 run.*.*.*.> run.edge.> run.2.acme.s1.task.a DtAe1bZf"}


def read(subject: str, body: bytes, headers: dict[str, str]) -> StoredFact:
    stored = read_fact(subject, body, 7, 1.0, headers)
    assert stored is not None
    return stored


def test_a_copy_is_told_by_its_place() -> None:
    assert sites.site_of("run.edge.acme.s1.done.t") == "edge"
    assert sites.site_of("run.11.acme.s1.done.t") == ""
    assert sites.site_of("tasks.edge.a.s1") == ""
    assert sites.site_of("run") == ""


@pytest.mark.parametrize("name", ["", "a.b", "*", "7", str(PARTITIONS), "x" * 65])
def test_a_site_is_no_partition_and_one_token(name: str) -> None:
    with pytest.raises(Permanent) as caught:
        sites.check_site(name)
    assert caught.value.code == "invalid_name"


def test_a_task_without_a_name_is_called_in_its_copy_as_at_its_site() -> None:
    assert read("run.edge.acme.s1.task.a", TASK, COPIED).task == "t41"
    assert read("run.2.acme.s1.task.a", TASK, COPIED).task == "t7"


def test_a_task_that_was_fetched_from_the_hub_is_called_by_its_place_at_the_site() -> None:
    """Where it lay at the hub is a number that another task of the site may have."""
    fetched = {SOURCE_HEADER: "SITE_edge:bTMUkJQk 3 site.edge.> run.> site.edge.tasks.acme.a.s1 x"}
    assert read("run.2.acme.s1.task.a", TASK, fetched).task == "t7"


def test_a_copied_deletion_covers_the_copies_before_it() -> None:
    """`upto` is a sequence of the site's log, which says nothing about the hub's."""
    body = encode(Deleted(upto=9_999))
    assert read("run.edge.acme.s1.deleted", body, {}).fact == Deleted(upto=6)
    assert read("run.2.acme.s1.deleted", body, {}).fact == Deleted(upto=9_999)


def test_a_copy_is_read_as_the_fact_that_it_is() -> None:
    body = encode(Done(task="t", status="completed"))
    here, there = (read(f"run.{place}.acme.s1.done.t", body, {}) for place in (2, "edge"))
    assert here == there


def test_what_is_for_a_site_is_in_a_stream_of_its_own() -> None:
    row = sites.outbox("edge")
    assert (row.name, row.subjects) == ("SITE_edge", ("site.edge.tasks.*.*.*",))
    assert sites.site_task_subject("edge", REF, "a") == "site.edge.tasks.acme.a.s1"
    assert row.name not in {one.name for one in STREAMS}


@pytest.mark.parametrize(("tenant", "agent"), [("a.b", "a"), ("acme", "*")])
def test_a_task_for_a_site_has_names_that_are_tokens(tenant: str, agent: str) -> None:
    with pytest.raises(Permanent):
        sites.site_task_subject("edge", SessionRef(tenant, "s1"), agent)


def test_a_fetched_task_is_renamed_as_the_site_renames_its_own() -> None:
    """The transform of RUNS, one token further to the right in the source."""
    (runs,) = (row for row in STREAMS if row.name == RUNS)
    own = runs.extra["subject_transform"]
    source = sites.fetched("edge", "hub")[RUNS]
    assert isinstance(own, dict)
    assert source.renamed == own["dest"]
    assert source.subjects == f"site.edge.{own['src']}"


def test_a_copy_comes_from_the_sites_domain_with_its_large_bodies() -> None:
    found = sites.copied("edge")
    assert set(found) == {RUNS, BLOBS}
    assert found[RUNS].config() == {
        "name": RUNS,
        "external": {"api": "$JS.edge.API", "deliver": "link.edge.up"},
        "subject_transforms": [
            {"src": "run.*.*.*.>", "dest": "run.edge.{{wildcard(2)}}.{{wildcard(3)}}.>"}
        ],
    }
    assert "subject_transforms" not in found[BLOBS].config()


def test_no_subject_of_the_system_may_cross_the_link() -> None:
    allowed = sites.link_permissions("edge", "hub")
    both = (*allowed.publish, *allowed.subscribe)
    assert all(one.startswith(("$JS.", "$JSC.", "link.edge.")) for one in both)
    assert not [one for one in both if one.startswith("$JS.S.")]  # the deliveries of all links
    assert not [one for one in allowed.publish if ".API." in one and "SITE_edge" not in one]


@pytest.mark.parametrize("header", ["", "RUNS:x", "RUNS:x many", "RUNS:x -1 a"])
def test_an_unreadable_origin_is_none(header: str) -> None:
    assert sites.origin_sequence({SOURCE_HEADER: header}) is None
