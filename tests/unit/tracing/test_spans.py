"""Which spans a task has: from facts that are written out here."""

from __future__ import annotations

import msgspec
import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

from services.tracing.core.spans import LOST, spans_of
from shared.contracts import facts as f
from shared.contracts.agents import AgentSpec, Limits, Sampling
from shared.contracts.base import SessionRef
from shared.contracts.log import StoredFact
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Failure
from shared.trace import Span, TraceContext, span_id_of, trace_id_of

REF = SessionRef("default", "s1")
CLIENT = TraceContext("ab" * 16, "cd" * 8)
FAILURE = Failure(code="engine_failed", family="transient", detail="secret detail")


def told(*facts: tuple[float, object], headers: dict[str, str] | None = None) -> list[StoredFact]:
    kinds = {TaskSubmitted: "task", f.Accepted: "accepted", f.Done: "done"}
    return [
        StoredFact(
            seq,
            time,
            REF,
            kinds.get(type(fact), "fact"),
            "helper",
            "t1",
            fact,
            (headers or {}) if seq == 1 else {},
        )
        for seq, (time, fact) in enumerate(facts, 1)
    ]


ACCEPTED = f.Accepted(
    task="t1", agent=AgentSpec(name="helper", instructions="be brief"), revision=3,
    limits=Limits(), sampling=Sampling(temperature=0.5), deadline=99.0, source=1,
)  # fmt: skip
CALLS = tuple(f.ToolCall(id=f"c{n}", name="shout", arguments='{"n": 1}') for n in (1, 2))
FIRST = f.Inferred(
    task="t1", step=1, tool_calls=CALLS, finish="tool_calls", model="nano", worker="w1",
    usage=f.Usage(input=10, cached=4, output=5), placed="emptiest",
    timings=f.Timings(queued_ms=200, first_token_ms=300, total_ms=1000),
)  # fmt: skip
LAST = f.Inferred(
    task="t1", step=4, content="a secret", model="nano", worker="w1",
    timings=f.Timings(total_ms=500),
)  # fmt: skip
LEG = f.Leg(
    name="retrieval", start_ms=50, duration_ms=200, figures={"collection": "a", "passages": 3}
)
WITH_LEG = f.ToolDone(
    task="t1", step=2, call="c1", name="shout", result="x", duration_ms=300, legs=(LEG,)
)
DONE = f.Done(task="t1", status="completed", output="a secret", totals=f.Totals(steps=4))
WHOLE = (
    (10.0, TaskSubmitted(input="a secret question")),
    (10.5, ACCEPTED),
    (12.0, FIRST),
    (12.5, f.ToolDone(task="t1", step=2, call="c1", name="shout", result="x", duration_ms=300)),
    (13.0, f.ToolDone(task="t1", step=3, call="c2", name="shout", result="y", duration_ms=900)),
    (14.0, LAST),
    (14.5, DONE),
)


def found(spans: list[Span], name: str) -> Span:
    (one,) = [span for span in spans if span.name == name]
    return one


def lasted(span: Span, start: float, end: float) -> bool:
    return (span.start, span.end) == pytest.approx((start, end))


def test_a_task_is_one_tree_in_order() -> None:
    spans = spans_of(told(*WHOLE))
    root = spans[0]
    assert [span.name for span in spans] == [
        "invoke_agent helper",
        *("route", "chat nano", "execute_tool shout", "execute_tool shout", "route", "chat nano"),
    ]
    assert {span.parent for span in spans[1:]} == {root.context}
    assert root.parent is None
    assert len({span.context.span_id for span in spans}) == len(spans)
    assert {span.context.trace_id for span in spans} == {trace_id_of(REF, "t1")}


def test_times_are_the_logs_and_durations_whatever_was_measured() -> None:
    root, route, chat, one, two, *_ = spans_of(told(*WHOLE))
    assert (root.start, root.end) == (10.0, 14.5)
    assert lasted(route, 10.5, 10.8)
    assert lasted(chat, 11.0, 12.0)
    assert lasted(one, 12.2, 12.5)
    assert lasted(two, 12.1, 13.0)


def test_attributes_have_the_names_of_the_conventions() -> None:
    root, route, chat, tool, *_ = spans_of(told(*WHOLE))
    assert root.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert root.attributes["gen_ai.agent.name"] == "helper"
    assert root.attributes["gen_ai.agent.version"] == "3"
    assert root.attributes["gen_ai.conversation.id"] == "s1"
    assert chat.attributes["gen_ai.operation.name"] == "chat"
    assert chat.attributes["gen_ai.request.model"] == "nano"
    assert chat.attributes["gen_ai.request.temperature"] == 0.5
    assert chat.attributes["gen_ai.response.finish_reasons"] == ("tool_calls",)
    assert chat.attributes["gen_ai.usage.input_tokens"] == 10
    assert chat.attributes["gen_ai.usage.cache_read.input_tokens"] == 4
    assert chat.attributes["gen_ai.response.time_to_first_chunk"] == 0.3
    assert tool.attributes["gen_ai.operation.name"] == "execute_tool"
    assert tool.attributes["gen_ai.tool.call.id"] == "c1"
    assert route.attributes["millrace.placed"] == "emptiest"


def test_every_name_is_one_of_the_conventions() -> None:
    """So that a release of theirs that renames something is noticed."""
    facts = told(*WHOLE[:3], (12.5, WITH_LEG), *WHOLE[4:])
    used = {name for span in spans_of(facts, content=True) for name in span.attributes}
    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    assert {name for name in used if name.startswith("gen_ai.")} <= known
    kinds = {span.attributes.get("gen_ai.operation.name") for span in spans_of(facts)} - {None}
    assert kinds == {"invoke_agent", "chat", "execute_tool", "retrieval"}
    assert kinds <= {one.value for one in gen_ai_attributes.GenAiOperationNameValues}


def test_what_was_said_is_told_to_those_who_ask_for_it_only() -> None:
    facts = told(*WHOLE, (15.0, f.Steered(task="t1", id="m", text="a secret")))[:-1]
    assert "secret" not in repr(spans_of(facts))
    root, _, chat, tool, *_ = spans_of(facts, content=True)
    assert "a secret question" in str(root.attributes["gen_ai.input.messages"])
    assert "a secret" in str(root.attributes["gen_ai.output.messages"])
    assert '"tool_call"' in str(chat.attributes["gen_ai.output.messages"])
    assert tool.attributes["gen_ai.tool.call.arguments"] == '{"n": 1}'
    assert tool.attributes["gen_ai.tool.call.result"] == "x"


def test_errors_are_codes_never_details() -> None:
    failed = (12.0, f.InferFailed(task="t1", step=1, error=FAILURE, model="nano", worker="w1"))
    end = f.Done(task="t1", status="failed", error=FAILURE)
    spans = spans_of(told(*WHOLE[:2], failed, (13.0, end)))
    assert [(span.name, span.error) for span in spans] == [
        ("invoke_agent helper", "engine_failed"),
        ("chat nano", "engine_failed"),
    ]
    assert "secret" not in repr(spans)


def test_the_clients_span_is_the_parent_of_the_whole() -> None:
    root, *rest = spans_of(told(*WHOLE, headers={"traceparent": str(CLIENT)}))
    assert root.parent == CLIENT
    assert {span.context.trace_id for span in (root, *rest)} == {CLIENT.trace_id}


def test_a_client_of_ours_without_a_span_is_no_parent() -> None:
    own = TraceContext("ab" * 16, span_id_of(REF, "t1"))
    root = spans_of(told(*WHOLE, headers={"traceparent": str(own)}))[0]
    assert (root.parent, root.context) == (None, own)


@pytest.mark.parametrize("header", ["", "00-zz", f"00-{'0' * 32}-{'1' * 16}-01", "ff-" + "1" * 60])
def test_a_malformed_context_is_as_none(header: str) -> None:
    root = spans_of(told(*WHOLE, headers={"traceparent": header}))[0]
    assert (root.parent, root.context.trace_id) == (None, trace_id_of(REF, "t1"))


def test_an_attempt_that_failed_is_a_sibling_with_its_number() -> None:
    failed = f.InferFailed(task="t1", step=1, error=FAILURE, model="nano", worker="w1")
    again = f.TimerFired(task="t1", timer="retry", step=1)
    facts = told(
        *WHOLE[:2], (10.7, failed), (10.9, again), (12.0, replace_attempt(FIRST)), WHOLE[-1]
    )
    first, route, second = spans_of(facts)[1:]
    assert (first.name, first.error, first.attributes["millrace.attempt"]) == (
        *("chat nano", "engine_failed"),
        1,
    )
    assert (second.name, second.error, second.attributes["millrace.attempt"]) == (
        "chat nano",
        "",
        2,
    )
    assert first.parent == second.parent
    assert route.start == 10.9, "the wait before a second try is nobody's time"


def replace_attempt(fact: f.Inferred, attempt: int = 2) -> f.Inferred:
    return msgspec.structs.replace(fact, attempt=attempt)


def test_an_attempt_that_left_nothing_is_told_too() -> None:
    """Its process was killed: the log knows of it by the number of the next one."""
    spans = spans_of(told(*WHOLE[:2], (12.0, replace_attempt(FIRST, 6)), WHOLE[-1]))
    _, route, lost, chat = spans
    assert (lost.name, lost.error, lost.attributes["millrace.attempt"]) == ("chat nano", LOST, 1)
    assert (lost.start, lost.end) == (route.end, chat.start)
    assert chat.attributes["millrace.attempt"] == 6


def test_a_tool_that_is_tried_again_has_two_spans() -> None:
    failed = f.ToolFailed(
        task="t1", step=2, call="c1", name="shout", error=FAILURE, duration_ms=100, retry=True
    )
    done = f.ToolDone(task="t1", step=2, call="c1", name="shout", result="x", attempt=2)
    spans = spans_of(told(*WHOLE[:3], (12.3, failed), (12.8, done), WHOLE[-1]))
    one, two = spans[-2:]
    assert (one.error, two.error) == ("engine_failed", "")
    assert one.context.span_id != two.context.span_id
    assert two.context.span_id == span_id_of(REF, "t1", "2")


def test_what_a_tool_asked_of_others_is_below_it() -> None:
    tool, below = spans_of(told(*WHOLE[:3], (12.5, WITH_LEG), WHOLE[-1]))[-2:]
    assert (below.name, below.parent) == ("retrieval", tool.context)
    assert below.attributes["gen_ai.data_source.id"] == "a"
    assert below.attributes["millrace.retrieval.passages"] == 3
    assert lasted(below, 12.25, 12.45)


def test_waiting_for_a_person_is_a_span_and_not_the_tools_time() -> None:
    parked = f.Parked(task="t1", step=2, reason="approval", detail="a secret")
    done = f.ToolDone(task="t1", step=2, call="c1", name="shout", result="x")
    facts = told(
        *WHOLE[:3],
        (12.1, parked),
        (70.0, f.Approved(task="t1", step=2, note="a secret")),
        (70.5, done),
        (71.0, DONE),
    )
    spans = spans_of(facts)
    waited = found(spans, "wait approval")
    assert (waited.start, waited.end) == (12.1, 70.0)
    assert found(spans, "execute_tool shout").start == 70.0
    assert "secret" not in repr(spans)


def test_a_task_that_nobody_accepted_has_a_root_alone() -> None:
    end = f.Done(task="t1", status="failed", error=FAILURE)
    (root,) = spans_of(told(WHOLE[0], (11.0, end)))
    assert (root.name, root.error, root.start) == ("invoke_agent helper", "engine_failed", 10.0)


def test_a_fork_tells_its_own_part_below_the_task_that_it_goes_on_from() -> None:
    forked = f.Forked(parent="s0", at=5, task="t1", step=4)
    facts = told(*WHOLE[:5], (90.0, forked), (91.0, LAST), (91.5, DONE))
    root, *rest = spans_of(facts)
    assert [span.name for span in rest] == ["route", "chat nano"]
    assert (root.start, root.end) == (90.0, 91.5)
    assert root.parent
    assert root.parent.span_id == span_id_of(SessionRef("default", "s0"), "t1")
    assert rest[0].start == 90.0


def test_the_same_facts_are_the_same_spans() -> None:
    assert spans_of(told(*WHOLE)) == spans_of(told(*WHOLE))


@pytest.mark.parametrize("end", range(len(WHOLE)))
def test_a_task_without_an_end_has_no_spans_yet(end: int) -> None:
    assert spans_of(told(*WHOLE[:end])) == []
