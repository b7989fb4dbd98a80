"""The table of subjects: complete, without overlaps, and the same way back."""

from __future__ import annotations

from itertools import combinations
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts import facts as f
from shared.contracts.base import SessionRef, as_token, check_token, decode, encode
from shared.contracts.log import MSG_ID, TASK_HEADER, Malformed, read_fact, task_id_of
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Permanent
from shared.subjects import (
    BUCKETS,
    BY_TYPE,
    CONSUMERS,
    FACT_KINDS,
    INDEXER,
    LANES,
    PARTITIONS,
    STREAMS,
    Consumer,
    document_subject,
    fact_subject,
    fired_subject,
    infer_consumer,
    infer_subject,
    parse_document,
    parse_run,
    partition,
    session_filter,
    sessions_consumer,
    shared_infer_consumer,
    shared_infer_subject,
    task_subject,
    timer_subject,
    tokens_subject,
    tool_subject,
)
from tests.contract.examples import EXAMPLES

REF = SessionRef("acme", "s1")
tokens = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject falls under a pattern, as the server sees it."""
    wanted, given = pattern.split("."), subject.split(".")
    for n, part in enumerate(wanted):
        if part == ">":
            return len(given) > n
        if n >= len(given) or part not in ("*", given[n]):
            return False
    return len(wanted) == len(given)


def overlap(a: str, b: str) -> bool:
    """Whether a subject exists that falls under both patterns."""
    for left, right in zip(a.split("."), b.split("."), strict=False):
        if ">" in (left, right):
            return True
        if left != right and "*" not in (left, right):
            return False
    return a.count(".") == b.count(".")


def test_the_partition_is_fnv_1a_as_in_the_server() -> None:
    assert partition("foo", "bar") == 0xBF9CF968 % PARTITIONS  # the published test vectors
    assert partition("a", "") == 0xE40C292C % PARTITIONS


@given(tokens, tokens)
def test_every_session_has_a_partition(tenant: str, session: str) -> None:
    assert 0 <= partition(tenant, session) < PARTITIONS


def test_partitions_share_the_load() -> None:
    found = {partition("default", f"s{n}") for n in range(200)}
    assert found == set(range(PARTITIONS))


def test_every_fact_has_one_row() -> None:
    types = [kind.type for kind in FACT_KINDS]
    assert set(types) == set(get_args(f.Fact))
    assert len({kind.token for kind in FACT_KINDS}) == len(FACT_KINDS) == len(set(types))


@pytest.mark.parametrize("kind", FACT_KINDS, ids=lambda kind: kind.token)
def test_a_fact_comes_back_from_its_subject(kind) -> None:
    fact = EXAMPLES[kind.type]
    subject = fact_subject(REF, fact) if kind.type is not TaskSubmitted else ""
    home = partition(REF.tenant, REF.session)
    subject = subject or f"run.{home}.{REF.tenant}.{REF.session}.task.helper"
    stored = read_fact(subject, encode(fact), 7, 1.5, {MSG_ID: "m"})
    assert stored is not None
    assert (stored.ref, stored.kind, stored.fact, stored.seq) == (REF, kind.token, fact, 7)
    expected = ".".join(str(getattr(fact, name)) for name in kind.unique)
    assert kind.type is TaskSubmitted or stored.rest == expected
    assert any(matches(pattern, subject) for pattern in sessions_consumer(home).filters)
    assert matches(session_filter(REF), fact_subject(REF, fact))


@pytest.mark.parametrize("subject", ["", "run", "run.1.t.s", "work.1.t.s.task", "tasks.a.b.c.d"])
def test_what_is_no_subject_of_the_log_is_refused(subject: str) -> None:
    with pytest.raises(Permanent) as caught:
        parse_run(subject)
    assert caught.value.code == "invalid_subject"


def test_the_rest_of_a_subject_is_kept() -> None:
    assert parse_run("run.1.t.s.done.a.b").rest == "a.b"
    assert parse_run("run.1.t.s.done").rest == ""


def test_a_kind_of_a_later_release_is_passed_over() -> None:
    assert read_fact("run.1.t.s.dreamt", b"{}", 1, 0.0, {}) is None


def test_a_body_that_cannot_be_read_does_not_stop_the_reader() -> None:
    stored = read_fact("run.1.t.s.inferred", b"{", 1, 0.0, {TASK_HEADER: "t1"})
    assert stored is not None
    assert isinstance(stored.fact, Malformed)
    assert (stored.kind, stored.task) == ("inferred", "t1")


@pytest.mark.parametrize(
    ("headers", "task"), [({}, "t9"), ({MSG_ID: "mine"}, "mine"), ({MSG_ID: "a.b"}, None)]
)
def test_a_task_is_named_by_its_message_id(headers: dict[str, str], task: str | None) -> None:
    found = task_id_of(9, headers)
    assert found == (task or as_token("a.b"))
    assert check_token(found, "task") == found


@pytest.mark.parametrize("value", ["", "a.b", "a b", "a*", ">", "ä", "a\n", "x" * 65])
def test_what_cannot_stand_in_a_subject_is_refused_by_name(value: str) -> None:
    with pytest.raises(Permanent) as caught:
        check_token(value, "session")
    assert (caught.value.code, caught.value.field) == ("invalid_name", "session")


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_text_becomes_a_token_of_its_own(one: str, other: str) -> None:
    assert check_token(as_token(one), "x")
    assert (as_token(one) == as_token(other)) == (one == other)


@pytest.mark.parametrize(
    ("ref", "agent", "field"),
    [
        (SessionRef("a.b", "s"), "helper", "tenant"),
        (SessionRef("a", "s s"), "helper", "session"),
        (SessionRef("a", "s"), "*", "agent"),
        (SessionRef("a", "_direct"), "helper", "session"),
    ],
)
def test_a_task_goes_to_valid_names_only(ref: SessionRef, agent: str, field: str) -> None:
    with pytest.raises(Permanent) as caught:
        task_subject(ref, agent)
    assert (caught.value.code, caught.value.field) == ("invalid_name", field)


def test_streams_do_not_overlap() -> None:
    for one, other in combinations(STREAMS, 2):
        assert not [(a, b) for a in one.subjects for b in other.subjects if overlap(a, b)]


def stream_of(subject: str) -> list[str]:
    return [s.name for s in STREAMS if any(matches(p, subject) for p in s.subjects)]


@pytest.mark.parametrize(
    ("subject", "stream"),
    [
        (task_subject(REF, "helper"), "RUNS"),
        (fact_subject(REF, EXAMPLES[f.Done]), "RUNS"),
        (shared_infer_subject("nano", LANES[-1]), "WORK"),
        (infer_subject("nano", "w1"), "WORK"),
        (tool_subject("mcp.server/tool"), "WORK"),
        (tokens_subject(REF, "t1"), "TOKENS"),
        (timer_subject(REF, "t1", "deadline"), "TIMERS"),
        (fired_subject(REF, "t1", "deadline"), "TIMERS"),
        (document_subject("acme", "default", "a file.txt"), "DOCS"),
        ("dead.router", "DEAD"),
    ],
)
def test_every_message_has_exactly_one_stream(subject: str, stream: str) -> None:
    assert stream_of(subject) == [stream]


@pytest.mark.parametrize(
    "consumer",
    [
        *CONSUMERS,
        sessions_consumer(3),
        infer_consumer("nano", "w1"),
        shared_infer_consumer("nano", LANES[0]),
    ],
)
def test_a_consumer_reads_from_a_stream_that_has_its_subjects(consumer: Consumer) -> None:
    (stream,) = [one for one in STREAMS if one.name == consumer.stream]
    for pattern in consumer.filters:
        assert any(overlap(pattern, subject) for subject in stream.subjects)
    assert consumer.ack_wait > 0
    assert check_token(consumer.name, "consumer")


def test_work_queue_consumers_do_not_overlap() -> None:
    """The server refuses the second of two that do."""
    shared = [shared_infer_consumer("nano", lane) for lane in LANES]
    lanes = [*shared, infer_consumer("nano", "w1")]
    work = [one for one in (*CONSUMERS, *lanes) if one.stream == "WORK"]
    for one, other in combinations(work, 2):
        assert not [(a, b) for a in one.filters for b in other.filters if overlap(a, b)]
    assert len({one.name for one in work}) == len(work)


def test_names_are_used_once() -> None:
    assert len({one.name for one in STREAMS}) == len(STREAMS)
    assert len({one.name for one in BUCKETS}) == len(BUCKETS)
    assert INDEXER.stream == "DOCS"


def test_a_document_comes_back_from_its_subject() -> None:
    assert parse_document(document_subject("acme", "handbook", "a/b c.txt")) == ("acme", "handbook")
    with pytest.raises(Permanent):
        parse_document("docs.acme.handbook")


def test_every_row_decodes_its_own_type() -> None:
    for kind, row in BY_TYPE.items():
        assert decode(encode(EXAMPLES[kind]), row.type) == EXAMPLES[kind]
