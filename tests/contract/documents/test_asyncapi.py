"""The AsyncAPI document: valid by its own standard, and complete by the tables of the bus."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import orjson
import pytest

from infra.docs.asyncapi import asyncapi
from infra.docs.channels import PARAMETERS, channels
from infra.docs.traffic import overlap, parties
from services.retrieval.adapters.asks import answers as asked_of_retrieval
from services.sessions.adapters.asks import Asks
from services.sessions.adapters.control import ORDERS
from shared import subjects as s
from shared.contracts import asks, backup, facts, log
from shared.contracts.base import SessionRef, encode
from tests.contract.examples import EXAMPLES, golden_name, messages
from tests.fakes.subjects import matches

REF = SessionRef("acme", "s1")
NOT_ON_THE_BUS = {backup.Manifest, backup.StreamFile, log.Malformed}
"""Two are files; the third stands for a body that could not be read, where it is read."""
GRAVE = s.Grave(REF, "router", "WORK", 12, 1_790_000_000_500)
SUBJECTS = {
    s.task_subject(REF, "helper"): "tasks",
    s.fact_subject(REF, facts.Done(task="t1", status="completed")): "run.done",
    s.fact_subject(REF, facts.Cancelled(task="t1")): "run.cancelled",
    s.snapshot_subject(REF): "run.snapshot",
    s.tokens_subject(REF, "t1"): "tokens",
    s.ROUTE: "work.route",
    s.infer_subject("nano", "w1"): "work.infer.w",
    s.shared_infer_subject("nano", s.LANES[0]): "work.infer.any",
    s.tool_subject("calculator"): "work.tool",
    s.direct_subject("w1"): "direct.infer",
    s.control_subject(REF, "steer"): "control.steer",
    s.replay_subject(REF): "replay",
    s.document_subject("acme", "handbook", "a/b.txt"): "docs",
    s.blob_subject(REF, "v_1f", 0): "blob",
    s.timer_subject(REF, "t1", "retry"): "timer",
    s.fired_subject(REF, "t1", "retry"): "fired",
    s.schedule_subject("acme", "report"): "timer._schedules.schedule",
    s.due_subject("acme", "report"): "fired._schedules.schedule",
    GRAVE.subject: "dead",
    s.retried_subject(GRAVE): "retried",
    s.abort_subject(REF, "t1"): "cancel",
    s.ended_subject(REF): "ended",
    s.member_subject("sessions", "m1"): "member",
    s.prefixes_subject("nano", "w1"): "prefixes",
    s.prefixes_request("w1"): "holds",
    s.ask_subject("acme", "read"): "ask.read",
    f"{s.feed_filter(s.session_prefix(REF))}.{s.DELTA}.t1": "feed.delta",
}
"""What the functions of the subject table make -> the channel that says what is on it."""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return orjson.loads(orjson.dumps(asyncapi("0.1.0")))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def standard() -> jsonschema_rs.Validator:
    path = Path(__file__).parent / "asyncapi-3.0.0.json"
    return jsonschema_rs.validator_for(orjson.loads(path.read_bytes()))


def test_the_document_is_valid(document: dict[str, Any], standard: jsonschema_rs.Validator) -> None:
    assert [str(error) for error in standard.iter_errors(document)] == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("operations", "sessions.send.run.done", "action"), "shout"),
        (("channels", "run.done", "address"), 7),
        (("servers", "nats", "protocol"), None),
        (("components", "securitySchemes", "nkey", "type"), "nkey"),
    ],
)
def test_a_document_with_a_mistake_is_not(
    document: dict[str, Any],
    standard: jsonschema_rs.Validator,
    place: tuple[str, ...],
    value: object,
) -> None:
    wrong = copy.deepcopy(document)
    *path, last = place
    found = wrong
    for name in path:
        found = found[name]
    assert last in found
    found[last] = value
    assert not standard.is_valid(wrong)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    wanted = set(references(document))
    assert len(wanted) > 200
    for pointer in wanted:
        found: Any = document
        for name in pointer.removeprefix("#/").split("/"):
            found = found[name.replace("~1", "/").replace("~0", "~")]


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_no_two_channels_have_a_name_or_a_pattern() -> None:
    rows = channels()
    assert len({row.name for row in rows}) == len(rows)
    assert len({row.pattern for row in rows}) == len(rows)
    assert {name for row in rows for name in row.parameters} == PARAMETERS.keys()


RIGHTS = sorted(
    {
        pattern
        for may in parties().values()
        for pattern in (*may.publish, *may.subscribe)
        if not pattern.startswith(("$JS.API.", "$JS.ACK.", "_INBOX.", "_R_."))
    }
)


@pytest.mark.parametrize("pattern", RIGHTS)
def test_whatever_may_be_sent_or_heard_is_a_channel(pattern: str) -> None:
    assert any(overlap(row.pattern, pattern) for row in channels())


def test_whatever_is_stored_or_consumed_is_a_channel() -> None:
    kept = [subject for row in s.STREAMS for subject in row.subjects]
    read = [subject for row in s.CONSUMERS for subject in row.filters]
    buckets = [f"$KV.{row.name}.>" for row in s.BUCKETS]
    for pattern in (*kept, *read, *buckets):
        assert any(overlap(row.pattern, pattern) for row in channels()), pattern


@pytest.mark.parametrize(("subject", "name"), SUBJECTS.items())
def test_a_subject_that_is_made_is_in_its_channel(subject: str, name: str) -> None:
    found = [row for row in channels() if matches(row.pattern, subject)]
    assert min(found, key=lambda row: len(row.parameters)).name == name


def test_every_fact_has_its_channel_and_is_republished() -> None:
    named = {row.name: row for row in channels()}
    for kind in s.FACT_KINDS:
        assert named[f"run.{kind.token}"].bodies == (kind.type,)
        assert named[f"feed.{kind.token}"].bodies == (kind.type,)
    assert "{task}.{step}.{attempt}" in named["run.tool_started"].address


def test_every_message_of_the_contracts_is_described(document: dict[str, Any]) -> None:
    described = document["components"]["schemas"].keys()
    missing = {kind for kind in messages() if kind.__name__ not in described}
    assert missing == NOT_ON_THE_BUS


@pytest.mark.parametrize(
    "kind", [kind for kind in messages() if kind not in NOT_ON_THE_BUS], ids=golden_name
)
def test_an_example_is_what_the_document_says(
    document: dict[str, Any], kind: type[msgspec.Struct]
) -> None:
    validator = of_schema(document, kind.__name__)
    body = orjson.loads(encode(EXAMPLES[kind]))
    assert [str(error) for error in validator.iter_errors(body)] == []
    assert not validator.is_valid(7)


def test_a_body_that_no_service_would_read_is_refused(document: dict[str, Any]) -> None:
    done = of_schema(document, "Done")
    assert done.is_valid({"task": "t1", "status": "completed"})
    assert not done.is_valid({"task": "t1", "status": "over"})
    assert not done.is_valid({"status": "completed"})


def of_schema(document: dict[str, Any], name: str) -> jsonschema_rs.Validator:
    schemas = {"components": {"schemas": document["components"]["schemas"]}}
    return jsonschema_rs.validator_for(
        {"$schema": "http://json-schema.org/draft-07/schema#"}
        | {"allOf": [{"$ref": f"#/components/schemas/{name}"}]}
        | schemas
    )


def test_the_verbs_are_those_that_sessions_knows() -> None:
    rows = {row.name.partition(".")[2]: row for row in channels() if row.name.startswith("control")}
    assert rows.keys() == {*ORDERS, "result", "retry", "fork", "note", "delete"}
    assert {verb: rows[verb].bodies for verb in ORDERS} == {v: (k,) for v, k in ORDERS.items()}


def test_the_questions_are_those_that_are_answered() -> None:
    rows = {row.name.partition(".")[2]: row for row in channels() if row.name.startswith("ask.")}
    never: Any = object()
    desks = Asks(never, never).answers() | asked_of_retrieval(never)
    assert {what: row.bodies for what, row in rows.items()} == {
        what: (answer.question,) for what, answer in desks.items()
    }
    assert all(asks.Answered in row.answers for row in rows.values())


def test_operations_are_the_rights_of_each_service(document: dict[str, Any]) -> None:
    found = document["operations"]
    assert found["sessions.send.run.done"]["action"] == "send"
    assert "tools.send.run.done" not in found
    assert found["tools.receive.work.tool"]["x-millrace-ways"] == ["consumer tools"]
    assert found["ingress.receive.feed.inferred"]["x-millrace-ways"] == ["subscribe"]
    assert "consumer router" in found["router.receive.work.route"]["x-millrace-ways"]
    assert "inference.receive.work.route" not in found
    assert {"tenant.send.tasks", "tenant.receive.tokens"} <= found.keys()
    assert not {"tenant.send.run.done", "tenant.receive.kv.keys"} & found.keys()


def test_a_question_names_its_answer(document: dict[str, Any]) -> None:
    asked = document["operations"]["ingress.send.ledger.usage"]
    assert asked["reply"] == {"channel": {"$ref": "#/channels/ledger.usage.reply"}}
    answers = document["channels"]["ledger.usage.reply"]
    assert answers["address"] is None
    assert list(answers["messages"]) == ["UsageReply"]


def test_a_channel_says_where_its_messages_are_kept(document: dict[str, Any]) -> None:
    def kept(name: str) -> list[str]:
        return [one["name"] for one in document["channels"][name].get("x-millrace-streams", ())]

    assert kept("run.done") == ["RUNS"]
    assert kept("tasks") == ["RUNS"]
    assert kept("kv.workers") == ["KV_workers"]
    assert kept("feed.done") == kept("ledger.tasks") == []


def test_a_large_body_is_said_to_be_elsewhere(document: dict[str, Any]) -> None:
    claimed = document["channels"]["tasks"]["messages"]["Claimed"]
    assert claimed["headers"]["required"] == ["Millrace-Claim"]
    assert "Claimed" not in document["channels"]["work.route"]["messages"]
