"""What a worker answers: demands of completions and of steps, on a scripted engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from services.inference.core.answering import Told
from services.inference.core.chat import ChatTemplate
from services.inference.core.dialect import Dialect
from services.inference.handlers import EngineChat, Inference, Model
from services.inference.ports import Ability, EngineUnavailable, GenerateRequest, View
from shared.contracts.agents import Sampling, ToolSpec
from shared.contracts.base import SessionRef
from shared.contracts.demands import Demands, ResponseFormat
from shared.contracts.facts import InferFailed, Inferred, Usage
from shared.contracts.tokens import DirectEvent
from shared.contracts.work import ChatMessage, DirectRequest, InferStep, RouteStep, Target
from shared.errors import Failure, MillraceError
from shared.events import deltas
from tests.fakes.instant_engine import InstantEngine, InstantOptions
from tests.fakes.scripted_model import CONTEXT, END, TEMPLATE, ByteTokenizer

ADD = ToolSpec(name="add", parameters={"type": "object"})
CALL = '<tool_call>\n{"name": "add", "arguments": {"n": 1}}\n</tool_call>'
JSON = Demands(response_format=ResponseFormat(type="json_object"))
REQUIRED = Demands(tool_choice="required")
EVERYTHING: frozenset[Ability] = frozenset(("constraint", "logprobs", "penalties"))


class Session:
    """A session with one message, a shelf with one tool, deltas that are kept, and the engine."""

    def __init__(self, engine: InstantEngine) -> None:
        self.deltas: list[str] = []
        self.thoughts: list[str] = []
        self.numbers: list[int] = []
        self.engine = engine
        self.chat: EngineChat | None = None
        self.messages: tuple[dict[str, object], ...] = ({"role": "user", "content": "hi"},)

    async def view(self, route: RouteStep, *, repeated: bool = False) -> View:
        return View(self.messages)

    def specs(self, names: Sequence[str]) -> Sequence[ToolSpec]:
        return [ADD] if names else []

    async def delta(self, route: RouteStep, attempt: int, told: Told) -> None:
        if told.text:
            self.deltas.append(told.text)
        else:
            self.thoughts.append(told.reasoning)
        self.numbers.append(told.index)


@asynccontextmanager
async def worker(
    says: str,
    abilities: frozenset[Ability] = EVERYTHING,
    dialect: Dialect | None = None,
    heard: list[GenerateRequest] | None = None,
) -> AsyncIterator[tuple[Inference, Session]]:
    options = InstantOptions(
        vocabulary=END + 1, context_tokens=CONTEXT, kv_blocks=CONTEXT, abilities=abilities
    )

    def script(request: GenerateRequest) -> Sequence[int]:
        if heard is not None:
            heard.append(request)
        return [*says.encode(), END]

    engine = InstantEngine(script, options)
    info = await engine.start()
    template = ChatTemplate(TEMPLATE, ())
    chat = EngineChat(engine, ByteTokenizer(), template, CONTEXT, dialect=dialect or Dialect())
    model = Model("m", "w", chat, info.fingerprint)
    session = Session(engine)
    session.chat = chat
    ticks = iter(float(n) for n in range(1_000_000))
    yield Inference(model, session, session, session, lambda: 0.0, lambda: next(ticks)), session
    await engine.close()


def completion(demands: Demands | None = None, *tools: ToolSpec, **more: Any) -> DirectRequest:
    return DirectRequest(
        id="c1", tenant="t", model="m", messages=(ChatMessage(role="user", content="hi"),),
        demands=demands or Demands(), tools=tools, **more,
    )  # fmt: skip


def step(demands: Demands, *tools: str) -> InferStep:
    route = RouteStep(
        ref=SessionRef("t", "s"), task="t1", step=0, route="r", seq=1, sampling=Sampling(),
        tools=tools, demands=demands,
    )  # fmt: skip
    return InferStep(route=route, target=Target(model="m"))


def step_at(number: int, demands: Demands) -> InferStep:
    asked = step(demands)
    return replace(asked, route=replace(asked.route, step=number))


async def events_of(inference: Inference, request: DirectRequest) -> list[DirectEvent]:
    return [event async for event in inference.complete(request)]


async def refusal(says: str, request: DirectRequest, *can: Ability) -> MillraceError:
    async with worker(says, frozenset(can)) as (inference, _):
        with pytest.raises(MillraceError) as refused:
            await events_of(inference, request)
    return refused.value


async def test_text_carries_nothing_that_was_not_asked_for() -> None:
    async with worker("hello") as (inference, _):
        events = await events_of(inference, completion())
    assert [event.fingerprint for event in events] == ["fp_instant"] + [""] * (len(events) - 1)
    assert not any(event.logprobs for event in events)
    assert "".join(event.text or "" for event in events) == "hello"


async def test_a_call_is_told_when_it_is_whole_and_again_at_the_end() -> None:
    async with worker(f"so {CALL}") as (inference, _):
        events = await events_of(inference, completion(None, ADD))
    calls = [event.call for event in events if event.call is not None]
    done = events[-1].done
    assert done is not None
    assert tuple(calls) == done.tool_calls
    assert (done.finish, done.content) == ("tool_calls", "so")


async def test_log_probabilities_are_those_of_the_text() -> None:
    async with worker(f"so {CALL}") as (inference, _):
        events = await events_of(inference, completion(Demands(logprobs=1), ADD))
    scored = [one for event in events for one in event.logprobs]
    assert [one.text for one in scored] == ["s", "o"]
    assert scored[0].bytes == (115,)
    assert [one.text for one in scored[0].top] == ["s"]


THOUGHT = f"<think>\nIt wants <tool_call>s.\n</think>\n\nso {CALL}"
THINKING = Dialect("hermes", "qwen3")


async def test_reasoning_is_an_event_of_its_own_and_no_part_of_the_answer() -> None:
    async with worker(THOUGHT, dialect=THINKING) as (inference, _):
        events = await events_of(inference, completion(Demands(logprobs=0), ADD))
    done = events[-1].done
    assert done is not None
    assert "".join(event.reasoning for event in events) == "It wants <tool_call>s."
    assert (done.reasoning, done.content) == ("It wants <tool_call>s.", "so")
    assert [call.name for call in done.tool_calls] == ["add"]
    assert done.usage.reasoning == len(">\nIt wants <tool_call>s.\n</think>")  # a byte is a token
    assert done.usage.output == len(THOUGHT) + 1
    assert [one.text for event in events for one in event.logprobs] == ["s", "o"]
    told = [bool(event.reasoning) for event in events if event.reasoning or event.text]
    assert told == sorted(told, reverse=True)


async def test_a_step_tells_what_it_thinks_before_what_it_says() -> None:
    async with worker(THOUGHT, dialect=THINKING) as (inference, session):
        (fact,) = await inference.infer(step(Demands(), "add"), 1)
    assert isinstance(fact, Inferred)
    assert (fact.reasoning, fact.content) == ("It wants <tool_call>s.", "so")
    assert "".join(session.deltas) == "so"
    assert "".join(session.thoughts) == fact.reasoning
    assert fact.cuts == (1, 2)
    assert fact.usage.reasoning > 0
    again = deltas(fact)
    assert session.numbers == [one.index for one in again]
    assert [one.reasoning for one in again if one.reasoning] == session.thoughts


async def test_an_answer_that_was_cut_while_it_thought_has_its_reasoning() -> None:
    async with worker("<think>\nHm, 2 </thi", dialect=THINKING) as (inference, _):
        events = await events_of(inference, completion())
    done = events[-1].done
    assert done is not None
    assert (done.reasoning, done.content) == ("Hm, 2 </thi", "")
    assert "".join(event.reasoning for event in events) == done.reasoning


async def test_log_probabilities_of_text_between_two_channels_are_kept() -> None:
    says = (
        "<|channel|>commentary<|message|>so<|end|><|start|>assistant<|channel|>analysis<|message|>"
        "hm<|end|><|start|>assistant<|channel|>final<|message|>yes"
    )
    dialect = Dialect("openai", "openai_gptoss")
    async with worker(says, dialect=dialect) as (inference, _):
        events = await events_of(inference, completion(Demands(logprobs=0)))
    assert [one.text for event in events for one in event.logprobs] == list("soyes")
    assert events[-1].done is not None
    assert (events[-1].done.content, events[-1].done.reasoning) == ("so\n\nyes", "hm")


async def test_another_format_of_calls_is_read_as_the_model_writes_it() -> None:
    says = '[TOOL_CALLS]add[ARGS]{"n": 1}'
    async with worker(says, dialect=Dialect("mistral")) as (inference, _):
        events = await events_of(inference, completion(None, ADD))
    done = events[-1].done
    assert done is not None
    assert [(call.name, call.arguments) for call in done.tool_calls] == [("add", '{"n": 1}')]


async def test_a_demand_that_no_grammar_can_be_written_for_is_looked_at_afterwards() -> None:
    one_of_several = ToolSpec(name="add", parameters={"anyOf": [{"required": ["n"]}]})
    call = "<tool_call><function=add><parameter=n>1</parameter></function></tool_call>"
    async with worker(call, frozenset(), Dialect("qwen3_coder")) as (inference, _):
        events = await events_of(inference, completion(REQUIRED, one_of_several))
    assert events[-1].done is not None
    async with worker("no", frozenset(), Dialect("qwen3_coder")) as (inference, _):
        unmet = (await events_of(inference, completion(REQUIRED, one_of_several)))[-1].error
    assert unmet is not None
    assert (unmet.code, unmet.field) == ("demand_unmet", "tool_choice")


async def test_markup_that_is_no_call_has_no_log_probabilities() -> None:
    async with worker("a<tool_call>no</tool_call>b") as (inference, _):
        events = await events_of(inference, completion(Demands(logprobs=0), ADD))
    scored = [one.text for event in events for one in event.logprobs]
    assert scored == ["a", "b"]


async def test_only_one_call_is_made_where_one_is_allowed() -> None:
    async with worker(CALL * 3) as (inference, _):
        one = await events_of(inference, completion(Demands(parallel_tool_calls=False), ADD))
        many = await events_of(inference, completion(Demands(), ADD))
    assert one[-1].done is not None
    assert many[-1].done is not None
    assert (len(one[-1].done.tool_calls), len(many[-1].done.tool_calls)) == (1, 3)
    assert one[-1].done.finish == "tool_calls"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (completion(JSON), "response_format"),
        (completion(REQUIRED, ADD), "tool_choice"),
        (completion(Demands(logprobs=0)), "logprobs"),
        (completion(sampling=Sampling(presence_penalty=1)), "presence_penalty"),
        (completion(sampling=Sampling(logit_bias={"1": 1.0})), "logit_bias"),
    ],
)
async def test_an_engine_that_cannot_do_it_refuses_by_name(
    request_: DirectRequest, field: str
) -> None:
    refused = await refusal("x", request_)
    assert (refused.family, refused.code) == ("permanent", "unsupported_demand")
    assert refused.field == field


@pytest.mark.parametrize(
    ("request_", "field"),
    [(completion(JSON), "response_format"), (completion(REQUIRED, ADD), "tool_choice")],
)
async def test_an_engine_that_does_not_keep_its_word_is_found_out(
    request_: DirectRequest, field: str
) -> None:
    async with worker("just talk", frozenset(["constraint"])) as (inference, _):
        *_, last = await events_of(inference, request_)
    assert last.error is not None
    assert last.done is not None
    assert (last.error.code, last.error.field) == ("demand_unmet", field)
    fact = inference.completed(request_, last.done, last.error)
    assert fact.error == Failure(code="demand_unmet", family="transient")
    assert fact.usage == last.done.usage != Usage(), "it was computed, and is billed"


async def test_what_a_client_does_not_wait_for_is_billed_as_far_as_it_was_computed() -> None:
    async with worker("x") as (inference, _):
        done = (await events_of(inference, completion()))[-1].done
    assert done is not None
    fact = inference.completed(completion(), replace(done, finish="aborted"))
    assert fact.error == Failure(code="client_gone")
    assert fact.usage == done.usage


async def test_a_step_that_did_not_meet_its_demands_is_tried_again_by_the_loop() -> None:
    async with worker("just talk") as (inference, _):
        (fact,) = await inference.infer(step(REQUIRED, "add"), 1)
    assert isinstance(fact, InferFailed)
    assert (fact.error.code, fact.error.family) == ("demand_unmet", "transient")


async def test_a_step_is_held_as_a_completion_is() -> None:
    async with worker(CALL * 2) as (inference, session):
        demands = Demands(tool_choice="function", function="add")
        (fact,) = await inference.infer(step(demands, "add"), 1)
    assert isinstance(fact, Inferred)
    assert ([call.name for call in fact.tool_calls], fact.finish) == (["add"], "tool_calls")
    assert session.deltas == []


def long_talk(turns: int) -> tuple[dict[str, object], ...]:
    """A conversation of about a thousand tokens a turn."""
    said = [{"role": "user", "content": f"{n:03d}" + "x" * 990} for n in range(turns)]
    return ({"role": "system", "content": "S"}, *said)


async def test_what_is_too_long_loses_its_beginning_where_it_may() -> None:
    async with worker("x") as (inference, session):
        session.messages = long_talk(17)
        with pytest.raises(MillraceError, match="context_too_long"):
            await inference.infer(step(Demands()), 1)
        (fact,) = await inference.infer(step(Demands(truncation="auto")), 1)
    assert isinstance(fact, Inferred)
    assert (fact.content, fact.usage.input) == ("x", 15 * 1_000 + len("system: S\n"))


async def test_the_beginning_stays_the_same_while_a_conversation_grows() -> None:
    """The cache of a prefix helps as long as it does: a change is rare, and is counted."""
    sizes: list[int] = []
    async with worker("x") as (inference, session):
        for turns in range(14, 30):
            session.messages = long_talk(turns)
            (fact,) = await inference.infer(step_at(turns, Demands(truncation="auto")), 1)
            assert isinstance(fact, Inferred)
            sizes.append(fact.usage.input)
        assert session.chat is not None
        broken = session.chat.stats().prefixes_broken
    assert broken == 5  # when 1, 2, 4, 8 and 16 turns had to go
    assert all(size <= CONTEXT for size in sizes)


async def test_a_question_that_is_too_long_by_itself_is_refused() -> None:
    async with worker("x") as (inference, session):
        session.messages = (*long_talk(1), {"role": "user", "content": "x" * CONTEXT})
        with pytest.raises(MillraceError, match="context_too_long"):
            await inference.infer(step(Demands(truncation="auto")), 1)


async def test_a_log_keeps_no_log_probabilities() -> None:
    async with worker("x") as (inference, _):
        with pytest.raises(MillraceError) as refused:
            await inference.infer(step(Demands(logprobs=2)), 1)
    assert (refused.value.code, refused.value.field) == ("unsupported_demand", "logprobs")


async def test_what_the_client_wrote_beside_its_request_is_in_the_usage_fact() -> None:
    request = completion(metadata={"user": "ada"})
    async with worker("x") as (inference, _):
        done = (await events_of(inference, request))[-1].done
        assert done is not None
        assert inference.completed(request, done).metadata == {"user": "ada"}


async def test_what_nobody_reads_along_is_said_once() -> None:
    async with worker(f"well {CALL}") as (inference, _):
        [event] = await events_of(inference, completion(None, ADD, whole=True))
        told = await events_of(inference, completion(None, ADD))
    assert event.done is not None
    assert (event.done.content, len(event.done.tool_calls)) == ("well", 1)
    assert event.fingerprint == told[0].fingerprint != ""
    assert len(told) > 2


async def test_logprobs_stand_beside_their_text_where_nobody_reads_along_too() -> None:
    scored = completion(Demands(logprobs=1), whole=True)
    async with worker("ab") as (inference, _):
        *told, last = await events_of(inference, scored)
    assert [one.text for event in told for one in event.logprobs][:2] == ["a", "b"]
    assert last.done is not None


async def test_a_step_over_which_the_engine_broke_is_tried_again_by_the_loop() -> None:
    async with worker("x") as (inference, session):
        session.engine.break_next_step()
        work = step(Demands())
        (fact,) = await inference.infer(work, 1)
        assert isinstance(fact, InferFailed)
        assert (fact.error.code, fact.error.family) == ("engine_broken", "transient")
        again = replace(work, route=replace(work.route, attempt=2))
        with pytest.raises(EngineUnavailable):  # the next one is not even begun
            await inference.infer(again, 2)


async def test_a_completion_over_which_the_engine_broke_may_be_asked_again() -> None:
    async with worker("x") as (inference, session):
        session.engine.break_next_step()
        for _ in range(2):
            with pytest.raises(EngineUnavailable):
                await events_of(inference, completion())


async def test_who_waits_for_an_answer_comes_before_batches_in_the_engine_too() -> None:
    asked: list[GenerateRequest] = []
    async with worker("x", heard=asked) as (inference, _):
        await events_of(inference, completion(None, ADD))
        await events_of(inference, completion(priority="batch"))
    assert [(one.priority, one.keep) for one in asked] == [
        ("interactive", "long"),
        ("batch", "usual"),
    ]
