"""A chat with an agent: what its task gets, and the part of the task that the client waits for."""

from __future__ import annotations

import pytest

from services.ingress.core.chat.agents import (
    AgentChunks,
    given_in_chat,
    task_input,
    terms_of_chat,
)
from services.ingress.core.chat.body import ChatBody
from services.ingress.core.chat.chunks import Frame, completion
from services.ingress.core.responses.fold import Place
from shared.contracts import facts as f
from shared.contracts.agents import Sampling
from shared.contracts.log import Event
from shared.contracts.tasks import TaskSubmitted
from shared.contracts.tokens import TokenDelta
from shared.errors import Permanent
from tests.unit.sessions.case import Case

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "mine", "strict": True}}
PAST = {"id": "call_x", "type": "function", "function": {"name": "mine", "arguments": "{}"}}
ASKED = {"role": "assistant", "content": None, "tool_calls": [PAST]}
RESULT = {"role": "tool", "content": "42", "tool_call_id": "call_x"}
CALL = f.ToolCall(id="call_t1_0_0", name="mine", arguments='{"n": 1}')


def body(*messages: object, **given: object) -> ChatBody:
    found = {"model": "agent:a", "messages": list(messages or [USER])} | given
    return ChatBody.model_validate(found)


def test_an_agents_task_gets_tools_and_demands_of_the_client() -> None:
    asked = body(tools=[TOOL], tool_choice="required", temperature=1)
    terms = terms_of_chat(asked, Sampling(max_tokens=7))
    assert [(tool.name, tool.strict) for tool in terms.tools] == [("mine", True)]
    assert terms.demands.tool_choice == "required"
    assert terms.sampling == Sampling(temperature=1, max_tokens=7)


def test_an_existing_session_gets_the_last_user_message() -> None:
    said = {"role": "assistant", "content": "yes"}
    asked = body(
        {"role": "system", "content": "s"}, USER, said, {"role": "user", "content": "more"}
    )
    assert task_input(asked, existing=True) == "more"
    found = task_input(asked, existing=False)
    assert [message.role for message in found if not isinstance(message, str)] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    with pytest.raises(Permanent, match="last message"):
        task_input(body(USER, said), existing=True)


def test_a_history_with_calls_enters_a_session_balanced() -> None:
    history = task_input(body(USER, ASKED, RESULT), existing=False)
    assert not isinstance(history, str)
    assert history[1].tool_calls[0].name == "mine"
    assert history[2].tool_call_id == "call_x"
    with pytest.raises(Permanent, match="unknown_call"):
        task_input(body(USER, RESULT), existing=False)
    with pytest.raises(Permanent, match="missing_tool_output"):
        task_input(body(USER, ASKED), existing=False)


def test_results_stand_at_the_end_with_words_behind_them() -> None:
    given = given_in_chat(body(USER, ASKED, RESULT, {"role": "user", "content": "quick"}))
    assert [len(part) for part in (given.before, given.results, given.after)] == [2, 1, 1]
    assert not given_in_chat(
        body(USER, ASKED, RESULT, {"role": "assistant", "content": "x"})
    ).results


def told() -> list[Event]:
    """A task whose client has a tool: asked, answered, ended."""
    case = Case().submit(body=b'{"input":"hi","tools":[{"name":"mine"}]}').appended()
    usage = f.Usage(input=5, output=3)
    said = f.Inferred(task="t1", step=0, content="Look:", tool_calls=(CALL,), usage=usage)
    case.add(said).appended()
    case.add(f.Approved(task="t1", step=1, result="42"))
    case.add(f.Inferred(task="t1", step=2, content="It is 42.", usage=usage)).appended()
    return [Event(str(s.seq), s.kind, s.time, s.task, s.fact) for s in case.log.facts]


def with_deltas() -> list[Event]:
    events: list[Event] = []
    for event in told():
        if isinstance(fact := event.data, f.Inferred):
            delta = TokenDelta(task="t1", step=fact.step, index=0, text=fact.content)
            events.append(Event(f"{event.id}:x", "delta", event.time, "t1", delta))
        events.append(event)
    return events


def spoken(number: int) -> tuple[str, list[object], list[object]]:
    """Text, calls and finish reasons of a part's chunks."""
    view = AgentChunks(Frame("c", 1, "m", include_usage=True), Place("t1", number))
    chunks = [chunk for event in with_deltas() for chunk in view.of(event)]
    assert view.ended
    assert chunks[-1]["usage"]["prompt_tokens"] == 5  # type: ignore[index]
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]  # type: ignore[index]
    text = "".join(one["delta"].get("content", "") for one in choices)
    calls = [call for one in choices for call in one["delta"].get("tool_calls", ())]
    return text, calls, [one["finish_reason"] for one in choices if one["finish_reason"]]


def test_a_part_ends_with_the_clients_calls_and_the_next_with_the_answer() -> None:
    text, calls, reasons = spoken(0)
    assert (text, reasons) == ("Look:", ["tool_calls"])
    assert [(one.get("id"), one["function"]) for one in calls] == [  # type: ignore[attr-defined, index]
        ("call_t1_0_0", {"name": "mine", "arguments": ""}),
        (None, {"arguments": '{"n": 1}'}),
    ]
    assert spoken(1) == ("It is 42.", [], ["stop"])


@pytest.mark.parametrize(("number", "reason"), [(0, "tool_calls"), (1, "stop")])
def test_the_whole_of_a_part(number: int, reason: str) -> None:
    frame = Frame("c", 1, "m")
    view = AgentChunks(frame, Place("t1", number))
    choices = [choice for event in told() if (choice := view.whole(event)) is not None]
    answer = completion(frame, choices)
    (shown,) = answer["choices"]  # type: ignore[misc]
    assert shown["finish_reason"] == reason
    assert bool(shown["message"].get("tool_calls")) == (number == 0)
    assert answer["usage"]["completion_tokens"] == 3  # type: ignore[index]


def test_a_task_that_fails_says_why() -> None:
    case = Case().submit(body=b'{"input":"hi","tools":[{"name":"add"}]}').appended()
    view = AgentChunks(Frame("c", 1, "m"), Place("t1"))
    assert isinstance(case.log.facts[0].fact, TaskSubmitted)
    task, done = (
        Event(str(stored.seq), stored.kind, stored.time, "t1", stored.fact)
        for stored in case.log.facts
    )
    assert view.whole(task) is None
    with pytest.raises(Permanent, match="duplicate_tool"):
        view.whole(done)
