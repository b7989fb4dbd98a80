"""The order and shape of OpenAI's chunks."""

import orjson
import pytest
from msgspec.structs import replace

from services.ingress.core.chat.chunks import Choice, DirectChunks, Frame, TaskChunks, completion
from shared.contracts.facts import Done, Timings, ToolCall, Totals, Usage
from shared.contracts.log import Event
from shared.contracts.tokens import DirectEvent, DirectResult, Logprob, TokenDelta
from shared.errors import Failure, Permanent, Transient

FRAME = Frame("chatcmpl_1", 7, "default", include_usage=True)


CALL = ToolCall(id="a", name="add", arguments="{}")
SCORED = Logprob(text="4", logprob=-0.5, bytes=(52,), top=(Logprob(text="<end>", logprob=-0.25),))
TOKEN = {
    "token": "4",
    "logprob": -0.5,
    "bytes": [52],
    "top_logprobs": [{"token": "<end>", "logprob": -0.25, "bytes": None}],
}


def result(content="", calls=(), finish="stop"):
    return DirectResult(
        content=content,
        tool_calls=calls,
        finish=finish,
        usage=Usage(input=3, cached=1, output=2),
        model="nano",
        worker="w",
        timings=Timings(),
    )


def test_reasoning_comes_first_and_is_told_once():
    thought = replace(result("four"), reasoning="2 + 2", usage=Usage(output=5, reasoning=3))
    chunks = run_direct(
        DirectEvent(reasoning="2 +"), DirectEvent(text="fo"), DirectEvent(done=thought)
    )
    assert deltas(chunks)[1:] == [
        {"reasoning_content": "2 +"},
        {"content": "fo"},
        {"reasoning_content": " 2"},
        {"content": "ur"},
        {},
    ]
    assert chunks[-1]["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}


def test_an_answer_without_stream_shows_its_reasoning():
    choice = Choice()
    choice.hear(DirectEvent(done=replace(result("four"), reasoning="2 + 2")))
    message = choice.body(0)["message"]
    assert (message["content"], message["reasoning_content"]) == ("four", "2 + 2")
    silent = Choice()
    silent.hear(DirectEvent(done=result("four")))
    assert "reasoning_content" not in silent.body(0)["message"]


def run_direct(*events):
    chunks = DirectChunks(FRAME)
    found = [chunks.start(), *(chunk for event in events for chunk in chunks.of(event))]
    return orjson.loads(orjson.dumps([*found, FRAME.usage_chunk(chunks.usage)]))


def delta(step, index, text, attempt=1):
    body = TokenDelta(task="t", step=step, index=index, text=text, attempt=attempt)
    return Event("1", "delta", 0.0, "t", body)


def done(output="", status="completed", error=None):
    body = Done(
        task="t", status=status, output=output, error=error, totals=Totals(usage=Usage(input=5))
    )
    return Event("2", "done", 0.0, "t", body)


def run_task(*events):
    chunks = TaskChunks(FRAME)
    return [chunks.start(), *(chunk for event in events for chunk in chunks.of(event))]


def deltas(chunks):
    return [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]


def text(chunks):
    return "".join(str(one.get("content", "")) for one in deltas(chunks))


def test_the_order_is_role_content_finish_usage():
    chunks = run_direct(
        DirectEvent(text="4"), DirectEvent(text="2"), DirectEvent(done=result("42"))
    )
    assert deltas(chunks) == [
        {"role": "assistant", "content": ""},
        {"content": "4"},
        {"content": "2"},
        {},
    ]
    assert [c["choices"][0]["finish_reason"] for c in chunks[:-1]] == [None, None, None, "stop"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 5
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


@pytest.mark.parametrize("said", ["x", 'a "b"\n\\', "\u2028 é 👋", "\0"])
@pytest.mark.parametrize("model", ["default", "\0", '"\0"'])
def test_a_text_alone_is_the_chunk_that_it_would_be_among_others(said, model):
    frame = replace(FRAME, model=model, fingerprint="fp_1")
    chunks = DirectChunks(frame, index=1)
    [found] = chunks.of(DirectEvent(text=said))
    assert orjson.dumps(found) == orjson.dumps(frame.chunk({"content": said}, index=1))


def test_without_include_usage_there_is_no_usage_at_all():
    chunks = DirectChunks(Frame("id", 1, "m"))
    found = [chunks.start(), *chunks.of(DirectEvent(done=result("hi")))]
    assert all("usage" not in chunk for chunk in found)


def test_text_that_was_not_streamed_comes_before_the_end():
    assert text(run_direct(DirectEvent(text="for"), DirectEvent(done=result("forty")))) == "forty"


def test_tool_calls_have_ids_and_indices_and_arguments_apart():
    calls = (
        ToolCall(id="a", name="add", arguments='{"x":1}'),
        ToolCall(id="b", name="n", arguments="{}"),
    )
    chunks = run_direct(DirectEvent(done=result(calls=calls, finish="tool_calls")))
    found = [one["tool_calls"][0] for one in deltas(chunks) if "tool_calls" in one]
    assert [one["index"] for one in found] == [0, 0, 1, 1]
    assert found[0]["id"] == "a"
    assert found[0]["function"] == {"name": "add", "arguments": ""}
    assert found[1] == {"index": 0, "function": {"arguments": '{"x":1}'}}
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_failure_is_raised_as_what_it_stands_for():
    with pytest.raises(Permanent, match="unknown_model"):
        run_direct(DirectEvent(error=Failure(code="unknown_model")))


def test_an_aborted_generation_is_no_answer():
    with pytest.raises(Transient, match="aborted"):
        run_direct(DirectEvent(done=result("half", finish="aborted")))


def test_a_whole_answer_with_tool_calls_has_null_content():
    choice = Choice()
    choice.hear(DirectEvent(done=result(calls=(CALL,), finish="tool_calls")))
    body = completion(FRAME, [choice])
    message = body["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"][0]["function"]["name"] == "add"


def test_a_task_streams_its_deltas_once():
    chunks = run_task(delta(0, 0, "3"), delta(0, 1, "91"), done("391"))
    assert text(chunks) == "391"
    assert chunks[-1]["usage"]["prompt_tokens"] == 5


def test_the_texts_of_two_steps_are_set_apart():
    assert text(run_task(delta(0, 0, "Looking."), delta(2, 0, "391"), done("391"))) == (
        "Looking.\n\n391"
    )


def test_a_second_attempt_repeats_nothing():
    events = (delta(0, 0, "The ans"), delta(0, 0, "The ", 2), delta(0, 1, "answer", 2))
    assert text(run_task(*events, done("The answer"))) == "The answer"


def test_a_second_attempt_that_differs_is_said_again_in_full():
    events = (delta(0, 0, "One"), delta(0, 0, "Two", 2), delta(0, 1, "!", 2))
    assert text(run_task(*events, done("Two!"))) == "One\n\nTwo!"


def test_an_answer_without_deltas_comes_with_done():
    assert text(run_task(done("391"))) == "391"


def test_a_failed_task_raises_its_error():
    with pytest.raises(Permanent, match="step_limit"):
        run_task(done(status="failed", error=Failure(code="step_limit")))


def test_a_cancelled_task_raises():
    with pytest.raises(Permanent, match="task_cancelled"):
        run_task(done(status="cancelled"))


def test_a_call_is_streamed_when_it_comes_and_not_again_at_the_end():
    other = ToolCall(id="b", name="sub", arguments="{}")
    ended = result(calls=(CALL, other), finish="tool_calls")
    chunks = run_direct(DirectEvent(call=CALL), DirectEvent(done=ended))
    found = [one["tool_calls"][0] for one in deltas(chunks) if "tool_calls" in one]
    assert [(one["index"], one.get("id")) for one in found] == [
        (0, "a"),
        (0, None),
        (1, "b"),
        (1, None),
    ]


def test_log_probabilities_stand_beside_their_text():
    event = DirectEvent(text="4", logprobs=(SCORED,))
    chunks = run_direct(event, DirectEvent(done=result("4")))
    found = [chunk["choices"][0]["logprobs"] for chunk in chunks[:-1]]
    assert found == [None, {"content": [TOKEN], "refusal": None}, None]
    choice = Choice(scored=True)
    choice.hear(event)
    choice.hear(DirectEvent(done=result("4")))
    assert choice.body(0)["logprobs"]["content"] == [TOKEN]


def test_choices_have_their_numbers_and_their_usage_is_added_up():
    choices = [Choice(), Choice()]
    for choice, said in zip(choices, ("a", "b"), strict=True):
        choice.hear(DirectEvent(done=result(said)))
    body = completion(FRAME, choices)
    assert [(one["index"], one["message"]["content"]) for one in body["choices"]] == [
        (0, "a"),
        (1, "b"),
    ]
    assert body["usage"]["total_tokens"] == 10
    second = DirectChunks(FRAME, index=1)
    found = [second.start(), *second.of(DirectEvent(done=result("b")))]
    assert {chunk["choices"][0]["index"] for chunk in found} == {1}


def thought(step, said, attempt=1):
    body = TokenDelta(task="t", step=step, index=0, text="", attempt=attempt, reasoning=said)
    return Event("1", "delta", 0.0, "t", body)


def test_what_an_agent_thinks_is_shown_once_for_each_step():
    events = (
        *(
            thought(0, "Hm."),
            delta(0, 1, "Moment."),
            thought(0, "Oh.", 2),
            delta(0, 1, "Moment.", 2),
        ),
        *(thought(2, "So."), delta(2, 1, "42"), done("42")),
    )
    said = deltas(run_task(*events))
    assert [one["reasoning_content"] for one in said if "reasoning_content" in one] == [
        "Hm.",
        "So.",
    ]
    assert "".join(one.get("content", "") for one in said) == "Moment.\n\n42"
