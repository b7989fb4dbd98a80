"""The order and shape of Anthropic's events, and that they add up to the whole answer."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.core.messages.events import (
    AgentTurn,
    DirectMessageEvents,
    Envelope,
    TaskMessageEvents,
    direct_message,
    task_message,
)
from services.ingress.core.responses.fold import Place
from shared.contracts.facts import (
    Approved,
    Done,
    Inferred,
    Parked,
    Timings,
    ToolCall,
    ToolDone,
    Totals,
    Usage,
)
from shared.contracts.log import Event
from shared.contracts.tasks import TaskSubmitted
from shared.contracts.tokens import DirectEvent, DirectResult, TokenDelta
from shared.errors import Broken, Failure, Permanent, Transient

ENVELOPE = Envelope("msg_1", "default", {"millrace": {"task": "t"}})
CALLS = (
    ToolCall(id="call_1", name="add", arguments='{"a": 1, "b": [2, "x"]}'),
    ToolCall(id="call_2", name="now", arguments="{}"),
)
USAGE = {
    "input_tokens": 2,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 1,
    "output_tokens": 2,
}


def result(content="", calls=(), finish="stop", stop_string=None):
    return DirectResult(
        content=content,
        tool_calls=calls,
        finish=finish,
        usage=Usage(input=3, cached=1, output=2),
        model="nano",
        worker="w",
        timings=Timings(),
        stop_string=stop_string,
    )


def shown(events, stream):
    return [stream.start(), *(one for event in events for one in stream.of(event))]


def run_direct(*events):
    return shown(events, DirectMessageEvents(ENVELOPE))


SUBMITTED = Event("1", "task", 0.0, "t", TaskSubmitted(input="hi"))


def run_task(*events, number=0):
    stream = TaskMessageEvents(ENVELOPE, AgentTurn(Place("t", number)))
    told = shown((SUBMITTED, *events), stream)
    assert stream.ended
    return told


def whole(*events, number=0):
    turn = AgentTurn(Place("t", number))
    [end] = [end for event in (SUBMITTED, *events) if (end := turn.of(event)) is not None]
    return task_message(ENVELOPE, end)


def fold(stream):
    """The message that a client has in the end, and the order it saw checked on the way."""
    first, *rest = [event for event in stream if event["type"] != "ping"]
    assert first["type"] == "message_start"
    message = orjson.loads(orjson.dumps(first["message"]))
    texts, is_open = [], False
    for event in rest:
        match event["type"]:
            case "content_block_start":
                assert not is_open
                assert event["index"] == len(message["content"])
                is_open = True
                message["content"].append(dict(event["content_block"]))
                texts.append("")
            case "content_block_delta":
                assert is_open
                assert event["index"] == len(texts) - 1
                texts[-1] += event["delta"].get("text", event["delta"].get("partial_json", ""))
            case "content_block_stop":
                assert is_open
                is_open = False
                block = message["content"][event["index"]]
                if block["type"] == "text":
                    block["text"] = texts[-1]
                else:
                    block["input"] = orjson.loads(texts[-1])
            case "message_delta":
                assert not is_open
                message |= event["delta"] | {"usage": event["usage"]}
    assert [event["type"] for event in rest[-2:]] == ["message_delta", "message_stop"]
    return message


def delta(step, text, attempt=1):
    body = TokenDelta(task="t", step=step, index=0, text=text, attempt=attempt)
    return Event("1", "delta", 0.0, "t", body)


def inferred(step, content, finish="stop", stop_string=None, calls=()):
    body = Inferred(
        task="t",
        step=step,
        content=content,
        finish=finish,
        stop_string=stop_string,
        tool_calls=calls,
        usage=Usage(input=3, cached=1, output=2),
    )
    return Event("1", "inferred", 0.0, "t", body)


def done(output="", status="completed", error=None, tokens=2):
    totals = Totals(usage=Usage(input=3, cached=1, output=tokens))
    body = Done(task="t", status=status, output=output, error=error, totals=totals)
    return Event("2", "done", 0.0, "t", body)


def blocks(stream):
    return [block["text"] for block in fold(stream)["content"]]


def test_the_events_of_a_text_in_their_order():
    stream = run_direct(
        DirectEvent(text="4"), DirectEvent(text="2"), DirectEvent(done=result("42"))
    )
    assert stream[1:] == [
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        {"type": "ping"},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "4"},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "2"},
        },
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": USAGE,
        },
        {"type": "message_stop"},
    ]
    assert stream[0] == {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "default",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": dict.fromkeys(USAGE, 0),
            "millrace": {"task": "t"},
        },
    }


def test_calls_follow_the_text_in_blocks_of_their_own():
    stream = run_direct(
        DirectEvent(text="Well."), DirectEvent(done=result("Well.", CALLS, "tool_calls"))
    )
    starts = [event for event in stream if event["type"] == "content_block_start"]
    assert [start["content_block"] for start in starts] == [
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "call_1", "name": "add", "input": {}},
        {"type": "tool_use", "id": "call_2", "name": "now", "input": {}},
    ]
    message = fold(stream)
    assert message["stop_reason"] == "tool_use"
    assert message["content"][1]["input"] == {"a": 1, "b": [2, "x"]}


def test_an_empty_answer_has_no_block():
    assert direct_message(ENVELOPE, result())["content"] == []
    assert fold(run_direct(DirectEvent(done=result())))["content"] == []


@given(
    content=st.text(max_size=60),
    places=st.lists(st.integers(0, 60), max_size=8),
    heard=st.integers(0, 9),
    calls=st.sampled_from([(), CALLS[:1], CALLS]),
    ending=st.sampled_from([("stop", None), ("stop", "END"), ("length", None)]),
)
def test_every_chunking_adds_up_to_the_whole_answer(content, places, heard, calls, ending):
    """Also where the last pieces are only part of the result."""
    finish = ("tool_calls", None) if calls else ending
    said = result(content, calls, *finish)
    ends = sorted(min(place, len(content)) for place in places)
    pieces = [content[a:b] for a, b in zip([0, *ends], [*ends, len(content)], strict=True)]
    events = [DirectEvent(text=piece) for piece in pieces[:heard]]
    stream = run_direct(*events, DirectEvent(done=said))
    assert fold(stream) == direct_message(ENVELOPE, said)


@pytest.mark.parametrize(
    ("finish", "stop_string", "reason"),
    [
        ("stop", None, "end_turn"),
        ("stop", "END", "stop_sequence"),
        ("length", None, "max_tokens"),
        ("tool_calls", "END", "tool_use"),
    ],
)
def test_why_it_ended(finish, stop_string, reason):
    message = direct_message(ENVELOPE, result("x", (), finish, stop_string))
    sequence = stop_string if reason == "stop_sequence" else None
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)


def test_what_was_stopped_is_no_answer():
    with pytest.raises(Transient, match="aborted"):
        direct_message(ENVELOPE, result("x", (), "aborted"))
    with pytest.raises(Transient, match="aborted"):
        run_direct(DirectEvent(done=result("x", (), "aborted")))


@pytest.mark.parametrize("arguments", ["[1]", "{", "7"])
def test_arguments_that_are_no_object_are_our_fault(arguments):
    calls = (ToolCall(id="c", name="add", arguments=arguments),)
    with pytest.raises(Broken, match="malformed_tool_call"):
        run_direct(DirectEvent(done=result("", calls, "tool_calls")))


def test_a_failure_is_raised_where_it_comes():
    stream = DirectMessageEvents(ENVELOPE)
    assert len(list(stream.of(DirectEvent(text="4")))) == 3
    with pytest.raises(Permanent, match="no_such"):
        list(stream.of(DirectEvent(error=Failure(code="no_such"))))


def test_a_tasks_model_calls_are_blocks_and_the_last_one_is_the_answer():
    events = [
        delta(0, "Let me "),
        delta(0, "see."),
        inferred(0, "Let me see.", "tool_calls"),
        delta(2, "39"),
        delta(2, "1"),
        inferred(2, "391"),
        done("391"),
    ]
    assert blocks(run_task(*events)) == ["Let me see.", "391"]
    message = fold(run_task(*events))
    assert message | {"content": message["content"][-1:]} == whole(*events)


def parked(step, reason="client_tool"):
    return Event("1", "parked", 0.0, "t", Parked(task="t", step=step, reason=reason))


def asks():
    """An answer that calls a tool of the agent's and two of the client's, as steps 1 to 3."""
    ours = ToolCall(id="call_0", name="ours", arguments="{}")
    said = inferred(0, "One moment.", "tool_calls", calls=(ours, *CALLS))
    return [delta(0, "One "), delta(0, "moment."), said]


def returned(step):
    """One of the agent's own tools has returned."""
    body = ToolDone(task="t", step=step, call="", name="", result="x")
    return Event("1", "tool_done", 0.0, "t", body)


def test_a_turn_ends_when_nothing_but_calls_of_the_client_is_left():
    events = [*asks(), parked(1, "approval"), parked(2), parked(3)]
    turn = AgentTurn(Place("t"))
    assert not any(turn.of(event) for event in (SUBMITTED, *events))
    message = fold(run_task(*events, returned(1)))
    assert message == whole(*events, returned(1))
    assert (message["stop_reason"], message["usage"]) == ("tool_use", USAGE)
    assert [block.get("name") for block in message["content"]] == [None, "add", "now"]


def test_a_call_of_somebody_elses_tool_is_not_shown():
    events = [*asks(), returned(1), returned(2)]
    asked = whole(*events, parked(3))
    assert [block.get("name") for block in asked["content"]] == [None, "now"]
    rest = [delta(4, "So."), inferred(4, "So."), done("So.")]
    assert blocks(run_task(*events, returned(3), *rest)) == ["One moment.", "So."]


def test_a_turn_that_goes_on_says_and_is_charged_for_its_own_calls():
    result = Event("1", "approved", 0.0, "t", Approved(task="t", step=3, by="me", result="7"))
    before = [*asks(), returned(1), returned(2), parked(3), result]
    rest = [delta(4, "So."), inferred(4, "So."), inferred(4, "again"), done("So.", tokens=900)]
    streamed = fold(run_task(*before, *rest, number=1))
    for message in (whole(*before, *rest, number=1), streamed):
        assert message["usage"] == USAGE
        assert message["content"] == [{"type": "text", "text": "So."}]
    assert whole(*rest)["usage"]["output_tokens"] == 900


@given(
    content=st.text("ab ", min_size=1, max_size=12).filter(str.strip),
    first=st.text("ab ", max_size=12),
    places=st.lists(st.integers(0, 12), max_size=4),
)
def test_a_second_attempt_ends_with_the_answer_alone_in_its_block(content, first, places):
    ends = sorted(min(place, len(content)) for place in places)
    pieces = [content[a:b] for a, b in zip([0, *ends], [*ends, len(content)], strict=True)]
    stream = run_task(
        *([delta(0, first)] if first else []),
        *(delta(0, piece, attempt=2) for piece in pieces if piece),
        inferred(0, content),
        done(content),
    )
    assert blocks(stream)[-1].strip() == content.strip()


def test_a_second_attempt_that_says_the_same_says_it_once():
    stream = run_task(
        delta(0, "The sum"), delta(0, "The ", 2), delta(0, "sum is 4", 2), done("The sum is 4")
    )
    assert blocks(stream) == ["The sum is 4"]


def test_deltas_that_were_lost_come_with_the_answer():
    assert blocks(run_task(delta(0, "39"), inferred(0, "391"), done("391"))) == ["391"]
    assert blocks(run_task(delta(0, "So."), inferred(2, "391"), done("391"))) == ["So.", "391"]
    assert blocks(run_task(done("391"))) == ["391"]


@pytest.mark.parametrize(
    ("last", "reason", "sequence"),
    [
        (inferred(0, "x"), "end_turn", None),
        (inferred(0, "x", "length"), "max_tokens", None),
        (inferred(0, "x", "stop", "END"), "stop_sequence", "END"),
        (inferred(0, "x", "tool_calls"), "end_turn", None),
    ],
)
def test_a_task_ends_as_its_last_model_call(last, reason, sequence):
    for message in (fold(run_task(last, done("x"))), whole(last, done("x"))):
        assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)


def test_a_task_that_failed_raises_why():
    with pytest.raises(Permanent, match="step_limit"):
        run_task(done(status="failed", error=Failure(code="step_limit")))
    with pytest.raises(Permanent, match="task_cancelled"):
        whole(done(status="cancelled"))


SHOWN = Envelope("msg_1", "default", thoughts="shown")


def told_of(*events, number=0):
    """Kind and text of each block of a task's stream, for who wants to see thoughts."""
    stream = TaskMessageEvents(SHOWN, AgentTurn(Place("t", number)))
    found = []
    for one in shown((SUBMITTED, *events), stream):
        if one["type"] == "content_block_start":
            found.append([one["content_block"]["type"], ""])
        elif one["type"] == "content_block_delta":
            found[-1][1] += one["delta"].get("thinking", one["delta"].get("text", ""))
    return [tuple(block) for block in found]


def thought(step, text, attempt=1):
    body = TokenDelta(task="t", step=step, index=0, text="", attempt=attempt, reasoning=text)
    return Event("1", "delta", 0.0, "t", body)


def test_each_model_call_of_an_agent_thinks_in_a_block_of_its_own():
    assert told_of(
        *(thought(0, "Look"), thought(0, "ing up."), delta(0, "Moment."), inferred(0, "Moment.")),
        *(thought(2, "Now."), delta(2, "42"), inferred(2, "42"), done("42")),
    ) == [("thinking", "Looking up."), ("text", "Moment."), ("thinking", "Now."), ("text", "42")]


def test_what_is_thought_again_is_told_once_and_what_differs_anew():
    assert told_of(
        *(thought(0, "Hm. "), thought(0, "Hm. ", 2), thought(0, "So.", 2), delta(0, "42", 2)),
        *(inferred(0, "42"), done("42")),
    ) == [("thinking", "Hm. So."), ("text", "42")]
    assert told_of(
        *(thought(0, "Hm."), delta(0, "4"), thought(0, "Oh.", 2), delta(0, "42", 2)),
        *(inferred(0, "42"), done("42")),
    ) == [("thinking", "Hm."), ("text", "4"), ("thinking", "Oh."), ("text", "2")]


def test_who_does_not_ask_sees_no_thought():
    stream = run_task(thought(0, "Hm."), delta(0, "42"), inferred(0, "42"), done("42"))
    assert blocks(stream) == ["42"]
