"""What a client adds to a transcript: histories with calls, notes, and what it hides again."""

from __future__ import annotations

import pytest

from services.sessions.core.control import noted
from shared.contracts import facts as f
from shared.contracts.agents import BARE, ToolSpec
from shared.contracts.base import encode
from shared.contracts.control import NoteSession
from shared.contracts.tasks import InputMessage, PastCall, TaskSubmitted, Terms
from shared.errors import Permanent
from shared.transcript import Transcript
from tests.unit.sessions.case import ADD, Case, ran, said

MINE = ToolSpec(name="mine")
CALL = f.ToolCall(id="c-mine", name="mine", arguments="{}")
PAST = PastCall(id="c-past", name="mine", arguments="{}")
HISTORY = (
    InputMessage(role="user", content="look"),
    InputMessage(role="assistant", content="", tool_calls=(PAST,)),
    InputMessage(role="tool", content="seen", tool_call_id="c-past"),
    InputMessage(role="user", content="and?"),
)


def shown(case: Case) -> list[tuple[object, object]]:
    return [(one["role"], one["content"]) for one in Transcript().fold(case.log.facts).messages()]


def started(**given: object) -> Case:
    body = {"input": "hi", "tools": (MINE,)} | given
    return Case().submit(body=encode(TaskSubmitted(**body))).appended()  # type: ignore[arg-type]


def note(name: str, *texts: str, hidden: tuple[str, ...] = ()) -> f.Noted:
    messages = tuple(InputMessage(role="user", content=text) for text in texts)
    return f.Noted(note=name, messages=messages, hidden=hidden)


def test_the_clients_words_stand_behind_the_agents() -> None:
    (system, _) = shown(started(instructions="Be short."))
    assert system == ("system", "You are a helpful agent.\n\nBe short.")
    assert shown(Case().submit(agent=BARE.name).appended()) == [("user", "hi")]


def test_other_words_hold_from_the_result_on() -> None:
    case = started(instructions="Be short.").add(said(0, CALL)).appended()
    case.add(f.Approved(task="t1", step=1, result="42", terms=Terms(instructions="Be long.")))
    assert shown(case)[0][1] == "You are a helpful agent.\n\nBe long."
    assert shown(case)[-1] == ("tool", "42")


def test_a_client_that_never_came_is_an_error() -> None:
    case = started().add(said(0, CALL)).appended()
    case.add(f.TimerFired(task="t1", timer="approval", step=1, attempt=1))
    assert shown(case)[-1] == ("tool", "error: the client did not answer in time")


def test_a_history_with_calls_is_shown_as_it_came() -> None:
    case = started(input=HISTORY)
    messages = Transcript().fold(case.log.facts).messages()[1:]
    assert [one["role"] for one in messages] == ["user", "assistant", "tool", "user"]
    assert messages[2]["tool_call_id"] == "c-past"
    (call,) = messages[1]["tool_calls"]  # type: ignore[misc]
    assert call["function"] == {"name": "mine", "arguments": "{}"}


def test_a_note_is_read_by_the_next_task_once() -> None:
    case = Case().add(note("n1", "one"), note("n1", "one"), note("n2", "two"))
    assert shown(case) == [("user", "one"), ("assistant", ""), ("user", "two")]
    case.running()
    assert shown(case)[-2:] == [("assistant", ""), ("user", "hi")]


def test_a_note_does_not_stand_between_a_task_and_its_repetition() -> None:
    case = Case().running().add(f.Cancelled(task="t1")).appended().add(note("n1", "one"))
    case.submit("t2", body=encode(TaskSubmitted(input="", retry_of="t1"))).appended()
    assert ("user", "") not in shown(case)


@pytest.mark.parametrize(
    ("hidden", "left"),
    [
        ("t1/in/0", ["assistant", "tool", "assistant"]),
        ("t1/0/text", ["user", "assistant", "tool", "assistant"]),
        ("t1/0/0", ["user", "assistant", "assistant"]),
        ("t1/2/text", ["user", "assistant", "tool"]),
    ],
)
def test_what_is_hidden_is_not_shown_and_calls_stay_balanced(hidden: str, left: list[str]) -> None:
    case = Case().running().add(said(0, ADD), ran(1, ADD), said(2)).appended()
    case.add(note("n1", hidden=(hidden,)))
    messages = Transcript().fold(case.log.facts).messages()
    assert [one["role"] for one in messages[1:]] == left
    calls = [call for one in messages for call in one.get("tool_calls", ())]  # type: ignore[attr-defined]
    assert len(calls) == sum(one["role"] == "tool" for one in messages)


def test_a_hidden_call_of_a_history_takes_its_result_along() -> None:
    case = started(input=HISTORY).add(note("n1", hidden=("t1/in/1",)))
    assert [role for role, _ in shown(case)] == ["system", "user", "user"]


def test_nothing_is_set_down_while_a_task_is_under_way() -> None:
    words = (InputMessage(role="user", content="x"),)
    with pytest.raises(Permanent, match="session_busy"):
        noted(Case().running().state, NoteSession(note="n1", messages=words))
    assert noted(Case().running().state, NoteSession(note="n1", metadata={"a": "b"}))
    with pytest.raises(Permanent, match="missing_result"):
        noted(Case().state, NoteSession(note="n1", messages=HISTORY[:2]))
