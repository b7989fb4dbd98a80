"""What a model is shown: balanced, in turns, and only ever growing at its end."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts import facts as f
from shared.contracts.log import StoredFact
from shared.contracts.tasks import InputMessage, TaskSubmitted, TextPart
from shared.errors import Failure
from shared.transcript import GO_ON, THOUGHT, Message, Transcript
from tests.fakes.ledger_log import CALL, Recorder, inferred
from tests.unit.sessions.simulation import Life

OTHER = f.ToolCall(id="c2", name="look", arguments="{}")


def roles(log: Recorder) -> list[object]:
    return [message["role"] for message in Transcript().fold(log.facts).messages()]


def started(task: str = "t1") -> Recorder:
    log = Recorder()
    log.submit(task, 0.0)
    log.accept(task, 0.1)
    return log


def result(call: f.ToolCall, step: int, text: str = "391") -> f.ToolDone:
    return f.ToolDone(task="t1", step=step, call=call.id, name=call.name, result=text)


def is_balanced(messages: list[Message]) -> bool:
    """Each assistant turn with calls is followed by exactly their results, in order."""
    owed: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            if not owed or message["tool_call_id"] != owed.pop(0):
                return False
        elif owed:
            return False
        owed += [call["id"] for call in message.get("tool_calls", ())]
    return not owed


def test_thoughts_are_recalled_in_the_turn_that_goes_on_and_never_later() -> None:
    log = started()
    log.add(f.Inferred(task="t1", step=0, tool_calls=(CALL,), reasoning="a sum"), 0.2)
    log.add(result(CALL, 1), 0.3)
    log.add(f.Inferred(task="t1", step=2, content="391", reasoning="done"), 0.2)
    transcript = Transcript().fold(log.facts)
    thoughts = [one.get(THOUGHT) for one in transcript.messages(reasoning=True)]
    assert [one for one in thoughts if one] == ["a sum", "done"]
    assert not any(THOUGHT in one for one in transcript.messages())
    log.add(f.Done(task="t1", status="completed", output="391"), 0.5)
    log.submit("t2", 1.0)
    log.accept("t2", 1.1)
    later = Transcript().fold(log.facts).messages(reasoning=True)
    assert not any(THOUGHT in one for one in later)


def test_a_hidden_answer_hides_its_thoughts() -> None:
    log = started()
    log.add(f.Inferred(task="t1", step=0, content="no", tool_calls=(CALL,), reasoning="a sum"), 0.2)
    log.add(result(CALL, 1), 0.3)
    log.add(f.Noted(note="n", hidden=("t1/0/text",)), 0.6)
    shown = Transcript().fold(log.facts).messages(reasoning=True)
    assert [one["content"] for one in shown if one["role"] == "assistant"] == [""]
    assert not any(THOUGHT in one for one in shown)


def test_a_retry_behind_an_answer_asks_for_more() -> None:
    log = started()
    log.add(f.Inferred(task="t1", step=0, content="late"), 0.2)
    log.add(f.Done(task="t1", status="cancelled"), 0.3)
    log.add(TaskSubmitted(input="", retry_of="t1"), 0.4, task="t2", agent="assistant")
    log.accept("t2", 0.5)
    shown = Transcript().fold(log.facts).messages()
    assert [one["content"] for one in shown][-2:] == ["late", GO_ON]
    log.add(f.Inferred(task="t2", step=0, content="more"), 0.6)
    more = {"role": "assistant", "content": "more"}
    assert Transcript().fold(log.facts).messages() == [*shown, more]


@given(st.randoms(use_true_random=True, note_method_calls=False), st.integers(5, 120))
def test_every_prefix_of_every_life_can_be_shown(random: Random, length: int) -> None:
    life = Life(random)
    life.live(length)
    life.finish(workers=True)
    transcript, before = Transcript(), list[Message]()
    for stored in life.world.log.facts:
        messages = transcript.fold([stored]).messages()
        assert is_balanced(messages)
        spoken = [one for one in messages if one["role"] != "system"]
        assert spoken[: len(before)] == before, "what was shown has changed"
        before = spoken
        turns = [one["role"] for one in before]
        pairs = list(pairwise(turns))
        assert ("user", "user") not in pairs
        assert ("assistant", "assistant") not in pairs
        # only what was said to a running task stands behind a tool's result
        steered = any(isinstance(one.fact, f.Steered) for one in life.world.log.facts)
        assert steered or ("tool", "user") not in pairs
    assert transcript.messages() == Transcript().fold(life.world.log.facts).messages()


def test_a_whole_task() -> None:
    log = started()
    log.add(inferred("t1", 0, calls=(CALL,)), 0.2)
    log.add(result(CALL, 1), 0.3)
    log.add(inferred("t1", 2, content="391"), 0.4)
    shown = Transcript().fold(log.facts).messages()
    assert [one["role"] for one in shown] == ["system", "user", "assistant", "tool", "assistant"]
    assert shown[2]["tool_calls"] == [
        {
            "id": "c1",
            "type": "function",
            "function": {"name": CALL.name, "arguments": CALL.arguments},
        }
    ]
    assert shown[3] == {"role": "tool", "tool_call_id": "c1", "content": "391"}


def test_results_are_shown_in_the_order_of_the_calls() -> None:
    log = started()
    log.add(inferred("t1", 0, calls=(CALL, OTHER)), 0.2)
    log.add(result(OTHER, 2, "second"), 0.3)
    assert roles(log) == ["system", "user"]
    log.add(result(CALL, 1, "first"), 0.4)
    shown = Transcript().fold(log.facts).messages()
    assert [one["content"] for one in shown[3:]] == ["first", "second"]


def test_a_failed_tool_is_a_result() -> None:
    log = started()
    log.add(inferred("t1", 0, calls=(CALL,)), 0.2)
    failure = Failure(code="tool_failed", detail="division by zero")
    log.add(f.ToolFailed(task="t1", step=1, call="c1", name="calculator", error=failure), 0.3)
    assert Transcript().fold(log.facts).messages()[-1]["content"] == "error: division by zero"


def test_the_first_result_wins() -> None:
    log = started()
    log.add(inferred("t1", 0, content="one"), 0.2)
    log.add(inferred("t1", 0, content="two", attempt=2), 0.3)
    assert [one["content"] for one in Transcript().fold(log.facts).messages()[2:]] == ["one"]


def test_an_unfinished_turn_is_left_out_and_the_end_answers_in_its_place() -> None:
    log = started()
    log.add(inferred("t1", 0, calls=(CALL,)), 0.2)
    log.add(f.Cancelled(task="t1"), 0.3)
    log.add(f.Done(task="t1", status="cancelled"), 0.4)
    assert roles(log) == ["system", "user"]
    log.submit("t2", 0.5, text="and now?")
    log.accept("t2", 0.6)
    assert roles(log) == ["system", "user", "assistant", "user"]
    assert Transcript().fold(log.facts).messages()[-2]["content"] == ""


def test_what_comes_after_the_end_changes_nothing() -> None:
    log = started()
    log.add(inferred("t1", 0, calls=(CALL,)), 0.2)
    log.add(f.Done(task="t1", status="cancelled"), 0.3)
    before = Transcript().fold(log.facts).messages()
    log.add(result(CALL, 1), 0.4)
    log.add(inferred("t1", 2, content="too late"), 0.5)
    assert Transcript().fold(log.facts).messages() == before


def test_the_system_message_is_that_of_the_newest_task() -> None:
    log = started()
    log.add(inferred("t1", 0, content="one"), 0.2)
    log.add(f.Done(task="t1", status="completed"), 0.3)
    log.submit("t2", 0.4, text="and now?")
    before = Transcript().fold(log.facts).messages()
    log.accept("t2", 0.5)
    after = Transcript().fold(log.facts).messages()
    assert len([one for one in after if one["role"] == "system"]) == 1
    assert after[1:] == [*before[1:], {"role": "user", "content": "and now?"}]


def test_a_chat_history_as_input_is_taken_over() -> None:
    log = Recorder()
    parts = (TextPart(text="a"), TextPart(text="b"))
    given = (
        InputMessage(role="user", content="hi"),
        InputMessage(role="assistant", content="ho"),
        InputMessage(role="user", content=parts),
    )
    log.add(TaskSubmitted(input=given), 0.0, task="t1")
    log.accept("t1", 0.1)
    shown = Transcript().fold(log.facts).messages()[1:]
    assert [(one["role"], one["content"]) for one in shown] == [
        ("user", "hi"),
        ("assistant", "ho"),
        ("user", "a\nb"),
    ]


def test_folding_again_changes_nothing() -> None:
    log = started()
    log.add(inferred("t1", 0, content="one"), 0.2)
    transcript = Transcript().fold(log.facts)
    before = transcript.messages()
    older: list[StoredFact] = log.facts[:2]
    assert transcript.fold(older).fold(log.facts).messages() == before


def test_a_refused_task_is_not_started_by_an_acceptance_that_comes_late() -> None:
    log = Recorder()
    log.submit("t1", 0.0)
    log.add(f.Done(task="t1", status="failed"), 0.1)
    log.submit("t1", 0.2)
    log.accept("t1", 0.3)
    assert roles(log) == []


# -- people ----------------------------------------------------------------------------------------


def talk(log: Recorder) -> list[tuple[object, object]]:
    shown = Transcript().fold(log.facts).messages()[1:]
    return [(one["role"], one["content"]) for one in shown]


def steered(text: str, name: str = "m1") -> f.Steered:
    return f.Steered(task="t1", id=name, text=text)


def test_what_is_said_while_the_model_speaks_stands_behind_its_answer() -> None:
    log = started()
    log.add(steered("shorter"), 0.2)
    assert [role for role, _ in talk(log)] == ["user"]
    log.add(inferred("t1", 0, content="well"), 0.3)
    assert talk(log)[1:] == [("assistant", "well"), ("user", "shorter")]


def test_what_is_said_while_tools_run_stands_behind_their_results() -> None:
    log = started()
    log.add(inferred("t1", 0, calls=(CALL,)), 0.2)
    log.add(steered("one"), 0.3)
    log.add(steered("one"), 0.3)
    log.add(steered("two", "m2"), 0.3)
    log.add(result(CALL, 1), 0.4)
    assert talk(log)[2:] == [("tool", "391"), ("user", "one\ntwo")]


def test_a_try_that_is_made_again_is_no_result() -> None:
    log = started()
    log.add(inferred("t1", 0, calls=(CALL,)), 0.2)
    busy = Failure(code="busy", family="transient")
    log.add(
        f.ToolFailed(task="t1", step=1, call="c1", name="calculator", error=busy, retry=True), 0.3
    )
    assert roles(log) == ["system", "user"]
    log.add(result(CALL, 1), 0.4)
    assert talk(log)[-1] == ("tool", "391")


def asked_for() -> Recorder:
    log = started()
    log.add(inferred("t1", 0, calls=(CALL,)), 0.2)
    log.add(f.Parked(task="t1", step=1, reason="approval"), 0.3)
    return log


def test_a_call_is_shown_with_what_a_person_made_of_it() -> None:
    log = asked_for()
    log.add(f.Approved(task="t1", step=1, arguments='{"a": 2}'), 0.4)
    log.add(result(CALL, 1), 0.5)
    shown = Transcript().fold(log.facts).messages()
    assert shown[2]["tool_calls"][0]["function"]["arguments"] == '{"a": 2}'  # type: ignore[index]


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        (f.Approved(task="t1", step=1, result="12"), "12"),
        (
            f.Rejected(task="t1", step=1, note="too dear"),
            "error: a person did not allow this. too dear",
        ),
        (f.TimerFired(task="t1", timer="approval", step=1), "error: nobody allowed this in time"),
    ],
)
def test_a_persons_answer_is_the_result(fact: f.Fact, text: str) -> None:
    log = asked_for()
    log.add(fact, 0.4)
    log.add(f.Rejected(task="t1", step=1, note="again"), 0.5)
    assert talk(log)[-1] == ("tool", text)


def test_an_answer_that_nobody_asked_for_is_none() -> None:
    log = started()
    log.add(inferred("t1", 0, calls=(CALL,)), 0.2)
    log.add(f.Rejected(task="t1", step=1), 0.3)
    assert roles(log) == ["system", "user"]


def test_a_task_that_goes_on_with_another_says_nothing_of_its_own() -> None:
    log = started()
    log.add(inferred("t1", 0, calls=(CALL,)), 0.2)
    log.add(result(CALL, 1), 0.3)
    log.add(f.Done(task="t1", status="failed"), 0.4)
    log.add(TaskSubmitted(input="", retry_of="t1"), 0.5, task="t2", agent="assistant")
    before = talk(log)
    log.accept("t2", 0.6)
    assert talk(log) == before
    assert before[-1] == ("tool", "391")
