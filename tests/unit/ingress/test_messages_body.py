"""What a request to `/v1/messages` may ask for, and what it becomes."""

import orjson
import pytest
from pydantic import ValidationError

from services.ingress.core.http.validation import failure_of_validation
from services.ingress.core.messages.body import (
    CountBody,
    MessagesBody,
    count_request,
    direct_request,
    sampling_of,
    task_input,
    terms_of,
)
from shared.contracts.agents import Sampling
from shared.contracts.demands import Demands
from shared.contracts.tasks import InputMessage, PastCall
from shared.contracts.work import ChatMessage
from shared.errors import Permanent

USER = {"role": "user", "content": "hi"}
ADD = {"name": "add", "description": "Adds.", "input_schema": {"type": "object"}}
USE = {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "c1", "content": "2"}
CACHE = {"type": "ephemeral", "ttl": "1h"}


def text(said, **more):
    return {"type": "text", "text": said} | more


def assistant(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def body(**more):
    return MessagesBody.model_validate(
        {"model": "default", "max_tokens": 50, "messages": [USER]} | more
    )


def messages(*given, **more):
    return direct_request(body(messages=list(given), **more), "acme", "msg_1").messages


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("service_tier", "priority"),
        ("mcp_servers", [{"type": "url"}]),
        ("container", "c_1"),
        ("no_such_thing", 1),
    ],
)
def test_what_is_not_supported_is_refused_by_name(name, value):
    with pytest.raises(Permanent) as caught:
        body(**{name: value})
    assert (caught.value.code, caught.value.field) == ("unsupported_parameter", name)


def test_a_thread_is_refused_with_the_code_that_clients_go_on_without_one():
    with pytest.raises(Permanent) as caught:
        body(thread={"type": "create"})
    assert (caught.value.code, caught.value.field) == ("thread_unsupported_request", "thread")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("thinking", {"type": "disabled"}),
        ("service_tier", "standard_only"),
        ("cache_control", CACHE),
        ("metadata", {"user_id": None}),
        ("container", None),
        ("stop_sequences", []),
        ("system", [text("Be brief.", cache_control=CACHE)]),
        ("tools", [ADD | {"type": "custom", "cache_control": {"type": "ephemeral"}}]),
    ],
)
def test_what_asks_for_nothing_special_is_accepted(name, value):
    assert body(**{name: value}).model == "default"


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ([text("see"), {"type": "image", "source": {}}], "messages.0.content.1.type"),
        ([{"type": "document"}], "messages.0.content.0.type"),
        ([{"type": "server_tool_use", "id": "x"}], "messages.0.content.0.type"),
        ([RESULT | {"content": [{"type": "image"}]}], "messages.0.content.0.content.0.type"),
    ],
)
def test_other_kinds_of_blocks_are_refused_with_their_place(content, place):
    with pytest.raises(Permanent) as caught:
        body(messages=[{"role": "user", "content": content}])
    assert (caught.value.code, caught.value.field) == ("unsupported_content", place)


def test_a_tool_of_the_server_is_refused_with_its_place():
    with pytest.raises(Permanent, match="web_search") as caught:
        body(tools=[ADD, {"type": "web_search_20250305", "name": "web_search"}])
    assert caught.value.field == "tools.1.type"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"tools": [ADD, ADD]}, "tools.1.name"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tools": [ADD], "tool_choice": {"type": "any", "name": "add"}}, "tool_choice.name"),
        ({"tools": [ADD], "tool_choice": {"type": "tool", "name": "sub"}}, "tool_choice.name"),
        ({"model": "agent:a b"}, "model"),
        ({"model": "agent:a", "tool_choice": {"type": "none"}}, "tool_choice"),
        ({"messages": [USER, assistant(text("The sum is"))]}, "messages.1.role"),
        ({"messages": [USER, assistant(USE)]}, "messages.1.content.0"),
        ({"messages": [USER, assistant(USE), USER]}, "messages.2.content.0"),
        ({"messages": [user(RESULT)]}, "messages.0.content.0.tool_use_id"),
        ({"messages": [user(USE)]}, "messages.0.content.0"),
        ({"messages": [assistant(RESULT), USER]}, "messages.0.content.0"),
        ({"messages": [assistant(USE, USE), user(RESULT)]}, "messages.0.content.1.id"),
        ({"messages": [assistant(USE), user(text("a"), RESULT)]}, "messages.1.content.0"),
        ({"messages": [assistant(USE), user(RESULT, RESULT)]}, "messages.1.content.1.tool_use_id"),
        ({"messages": [assistant(USE), assistant(text("b")), USER]}, "messages.0.content.0"),
    ],
)
def test_what_does_not_fit_together_names_the_field(more, field):
    with pytest.raises(Permanent) as caught:
        body(**more)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"stop_sequences": [""]}, "stop_sequences.0"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages.0.content"),
        ({"messages": [user()]}, "messages.0.content"),
        ({"messages": [user(text("a", colour="red"))]}, "messages.0.content.0.colour"),
        ({"messages": [assistant(USE | {"input": "{}"}), USER]}, "messages.0.content.0.input"),
        ({"messages": [user({"text": "a"})]}, "messages.0.content.0"),
        ({"messages": [user({"type": 7})]}, "messages.0.content.0"),
        ({"messages": [user("a")]}, "messages.0.content.0"),
        ({"messages": [user(text(""))]}, "messages.0.content.0.text"),
        (
            {"messages": [user(RESULT | {"content": [text(7)]})]},
            "messages.0.content.0.content.0.text",
        ),
        ({"messages": 7}, "messages"),
        ({"messages": [{"role": "user", "content": {}}]}, "messages.0.content"),
        ({"system": 7}, "system"),
        ({"system": [text(7)]}, "system.0.text"),
        ({"tools": [{"name": "add"}]}, "tools.0.input_schema"),
        ({"tools": [ADD | {"input_schema": {"type": "array"}}]}, "tools.0.input_schema.type"),
        ({"metadata": {"user_id": 7}}, "metadata.user_id"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
    ],
)
def test_a_wrong_value_names_its_field(more, field):
    with pytest.raises(ValidationError) as caught:
        body(**more)
    assert failure_of_validation(caught.value.errors()).field == field


def test_blocks_become_the_turns_of_a_model():
    given = messages(
        user(text("Add"), text("these.")),
        assistant(text("Well."), USE, USE | {"id": "c2"}),
        user(
            RESULT | {"content": [text("2"), text("!")]},
            {"type": "tool_result", "tool_use_id": "c2", "is_error": True, "content": "no"},
            text("And?"),
        ),
        system=[text("Be brief."), text("Be kind.")],
    )
    calls = [
        {"id": name, "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
        for name in ("c1", "c2")
    ]
    assert given == (
        ChatMessage(role="system", content="Be brief.\nBe kind."),
        ChatMessage(role="user", content="Add\nthese."),
        ChatMessage(role="assistant", content="Well.", tool_calls=tuple(calls)),
        ChatMessage(role="tool", content="2\n!", tool_call_id="c1"),
        ChatMessage(role="tool", content="error: no", tool_call_id="c2"),
        ChatMessage(role="user", content="And?"),
    )


def test_results_may_come_in_several_messages_of_the_user():
    second = RESULT | {"tool_use_id": "c2"}
    given = messages(assistant(USE, USE | {"id": "c2"}), user(RESULT), user(second))
    assert [one.role for one in given] == ["assistant", "tool", "tool"]


@pytest.mark.parametrize("content", [None, "", [], [text("")]])
def test_a_result_may_be_empty(content):
    empty = {"type": "tool_result", "tool_use_id": "c1", "content": content}
    result = messages(assistant(USE), user(empty))[1]
    assert result == ChatMessage(role="tool", content="", tool_call_id="c1")


def test_an_answer_of_ours_may_come_back_as_its_client_holds_it():
    said = assistant(text("4", citations=None), USE | {"caller": None})
    assert [one.role for one in messages(USER, said, user(RESULT))] == ["user", "assistant", "tool"]


@pytest.mark.parametrize(
    ("choice", "demands"),
    [
        (None, Demands()),
        ({"type": "auto"}, Demands()),
        ({"type": "any"}, Demands(tool_choice="required")),
        ({"type": "tool", "name": "add"}, Demands(tool_choice="function", function="add")),
        (
            {"type": "any", "disable_parallel_tool_use": True},
            Demands(tool_choice="required", parallel_tool_calls=False),
        ),
    ],
)
def test_a_choice_of_tools_is_a_demand(choice, demands):
    request = direct_request(body(tools=[ADD], tool_choice=choice), "acme", "msg_1")
    assert request.demands == demands
    assert request.tools[0].parameters == {"type": "object"}


def test_a_schema_is_passed_on_whole():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    request = direct_request(body(tools=[ADD | {"input_schema": schema}]), "acme", "msg_1")
    assert orjson.loads(orjson.dumps(request.tools[0].parameters)) == schema


def test_with_none_no_tool_is_offered():
    request = direct_request(body(tools=[ADD], tool_choice={"type": "none"}), "acme", "msg_1")
    assert (request.tools, request.demands) == ((), Demands())


def test_sampling_keeps_what_the_request_leaves_open():
    base = Sampling(temperature=0.3, top_p=0.9, seed=4, stop=("x",), top_k=9)
    assert sampling_of(body(), base) == Sampling(
        temperature=0.3, top_p=0.9, seed=4, stop=("x",), top_k=9, max_tokens=50
    )
    asked = body(temperature=0, top_p=0.5, top_k=3, stop_sequences=["END"])
    assert sampling_of(asked, base) == Sampling(
        temperature=0, top_p=0.5, seed=4, stop=("END",), top_k=3, max_tokens=50
    )


def test_counting_takes_the_same_prompt_and_no_max_tokens():
    given = {"model": "default", "messages": [USER], "system": "Be brief.", "tools": [ADD]}
    counted = count_request(CountBody.model_validate(given), "acme", "count_1")
    asked = direct_request(body(system="Be brief.", tools=[ADD]), "acme", "msg_1")
    assert (counted.messages, counted.tools) == (asked.messages, asked.tools)
    assert (counted.count_only, counted.sampling.max_tokens) == (True, 1)


def test_counting_is_for_models():
    with pytest.raises(Permanent) as caught:
        CountBody.model_validate({"model": "agent:assistant", "messages": [USER]})
    assert caught.value.field == "model"


def agent_input(*given, existing=False, **more):
    return task_input(body(model="agent:a", messages=list(given), **more), existing=existing)


def test_an_agents_new_session_gets_the_whole_conversation():
    assert agent_input(USER) == "hi"
    assert agent_input(user(text("a"), text("b"))) == "a\nb"
    assert agent_input(USER, assistant(text("yes")), USER, system="Be brief.") == (
        InputMessage(role="system", content="Be brief."),
        InputMessage(role="user", content="hi"),
        InputMessage(role="assistant", content="yes"),
        InputMessage(role="user", content="hi"),
    )


def test_an_agents_known_session_gets_what_is_new():
    history = (USER, assistant(USE), user(RESULT), assistant(text("2")), user(text("and now?")))
    assert agent_input(*history, existing=True, system="Be brief.") == "and now?"


def test_all_that_follows_the_last_answer_is_new():
    assert agent_input(USER, assistant(text("yes")), USER, user(text("please")), existing=True) == (
        InputMessage(role="user", content="hi"),
        InputMessage(role="user", content="please"),
    )
    assert agent_input(user(text("and now?")), existing=True) == "and now?"


def test_a_history_with_calls_enters_a_new_session():
    assert agent_input(USER, assistant(USE), user(RESULT, text("And?"))) == (
        InputMessage(role="user", content="hi"),
        InputMessage(
            role="assistant",
            content="",
            tool_calls=(PastCall(id="c1", name="add", arguments='{"a":1}'),),
        ),
        InputMessage(role="tool", content="2", tool_call_id="c1"),
        InputMessage(role="user", content="And?"),
    )


def test_results_of_elsewhere_cannot_enter_a_known_session():
    with pytest.raises(Permanent) as caught:
        agent_input(USER, assistant(USE), user(RESULT), existing=True)
    assert (caught.value.code, caught.value.field) == ("unknown_call", "messages.2.content")


def test_what_an_agents_client_says_beside_results():
    second = RESULT | {"tool_use_id": "c2", "is_error": True}
    asked = body(
        model="agent:a",
        messages=[USER, assistant(USE, USE | {"id": "c2"}), user(RESULT, second, text("And?"))],
    )
    assert asked.returned == {"c1": "2", "c2": "error: 2"}
    assert (asked.words, asked.answered) == ("And?", 2)
    assert body(model="agent:a").returned == {}


def test_an_answer_without_stream_is_wanted_whole() -> None:
    assert direct_request(body(), "acme", "msg_1").whole
    assert not direct_request(body(stream=True), "acme", "msg_1").whole


@pytest.mark.parametrize(
    ("thinking", "config", "effort", "shown"),
    [
        (None, None, None, "hidden"),
        (None, "high", "high", "hidden"),
        ({"type": "disabled"}, "high", "none", "hidden"),
        ({"type": "between_tools"}, None, "none", "hidden"),
        ({"type": "enabled", "budget_tokens": 1024}, None, "low", "shown"),
        ({"type": "enabled", "budget_tokens": 10_000}, None, "medium", "shown"),
        ({"type": "enabled", "budget_tokens": 30_000}, None, "high", "shown"),
        ({"type": "adaptive"}, None, "medium", "shown"),
        ({"type": "adaptive", "display": "omitted"}, "low", "low", "omitted"),
    ],
)
def test_thinking_is_an_effort_and_what_is_shown_of_it(thinking, config, effort, shown):
    given = {} if thinking is None else {"thinking": thinking}
    asked = body(max_tokens=50_000, output_config={"effort": config}, **given)
    assert (direct_request(asked, "acme", "m").demands.effort, asked.shown) == (effort, shown)
    agents = MessagesBody.model_validate(asked.model_dump() | {"model": "agent:helper"})
    assert terms_of(agents).demands.effort == effort


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "adaptive", "budget_tokens": 2000}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking.budget_tokens"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format"),
    ],
)
def test_thinking_that_cannot_be_is_refused(given, field):
    with pytest.raises(Permanent) as caught:
        body(max_tokens=2000, **given)
    assert caught.value.field == field


def test_thoughts_that_come_back_are_the_assistants():
    thought = {"type": "thinking", "thinking": "hm", "signature": "of somebody else"}
    locked = {"type": "redacted_thinking", "data": "x"}
    told = messages(USER, {"role": "assistant", "content": [thought, locked, text("so")]}, USER)
    assert told[1] == ChatMessage(role="assistant", content="so", reasoning="hm")
    for block in (thought, locked):
        with pytest.raises(Permanent) as caught:
            body(messages=[{"role": "user", "content": [block]}])
        assert caught.value.field == "messages.0.content.0"
