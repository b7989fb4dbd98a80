"""A call ends in one fact, in time, or is tried again."""

from __future__ import annotations

import asyncio

import pytest

from services.tools.core.registry import Registry, as_tool
from services.tools.handlers import MAX_RESULT, Assignment, Handlers
from shared.contracts.base import SessionRef
from shared.contracts.facts import Parked, ToolDone, ToolFailed, ToolStarted
from shared.contracts.work import RunTool
from shared.errors import Failure, Permanent, Transient


class Bench:
    """Tools that behave badly."""

    def __init__(self) -> None:
        self.running = self.most = self.calls = 0

    async def echo(self, text: str) -> str:
        """Say it again"""
        self.calls += 1
        return text

    async def refuse(self) -> str:
        """Say no"""
        raise Permanent("not_allowed", "not allowed")

    async def away(self) -> str:
        """Be unavailable"""
        raise Transient("search_unavailable", "search unavailable")

    async def slow(self) -> str:
        """Take long"""
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.02)
        self.running -= 1
        return "done"

    async def pay(self) -> str:
        """Do it once"""
        self.calls += 1
        return "paid"

    async def hang(self) -> str:
        """Never come back"""
        await asyncio.sleep(60)
        return ""

    async def crash(self) -> str:
        """Break in the middle"""
        return str(1 / 0)

    async def lost(self) -> str:
        """Not even begin"""
        raise Transient("unreachable", "the connection was refused")

    async def large(self) -> str:
        """Say too much"""
        return "x" * (MAX_RESULT + 1)


class MemoryPromises:
    """The first execution of an attempt begins; passes the port's rules, without a log."""

    def __init__(self) -> None:
        self.begun: dict[tuple[str, int, int], str] = {}
        self.away = False

    async def begin(self, fact: ToolStarted, ref: SessionRef) -> bool:
        if self.away:
            raise Transient("bus_unavailable", "away")
        key = (fact.task, fact.step, fact.attempt)
        return self.begun.setdefault(key, fact.executor) == fact.executor


@pytest.fixture
def promises() -> MemoryPromises:
    return MemoryPromises()


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def handlers(bench: Bench, promises: MemoryPromises) -> Handlers:
    tools = [as_tool(f) for f in (bench.echo, bench.refuse, bench.away, bench.large)]
    tools.append(as_tool(bench.slow, concurrency=2))
    effects = (bench.pay, bench.hang, bench.crash, bench.lost)
    tools += [as_tool(f, side_effects=True, timeout=0.02) for f in effects]
    ticks = iter(range(10_000))
    return Handlers(Registry(tools), promises, lambda: float(next(ticks)))


def job(
    name: str,
    arguments: str = "{}",
    deadline: float = 0.0,
    attempt: int = 1,
    *,
    step: int = 2,
    final: bool = True,
    executor: str = "one",
) -> Assignment:
    work = RunTool(
        ref=SessionRef("t", "s"),
        task="k",
        step=step,
        call="c1",
        name=name,
        arguments=arguments,
        deadline=deadline,
        final=final,
    )
    return Assignment(work, attempt, executor, 100.0)


async def failure(handlers: Handlers, work: Assignment) -> Failure:
    (fact,) = await handlers.run(work)
    assert isinstance(fact, ToolFailed)
    assert (fact.task, fact.step, fact.call, fact.name) == ("k", 2, "c1", work.work.name)
    return fact.error


async def test_a_result_is_a_fact(handlers: Handlers) -> None:
    (fact,) = await handlers.run(job("echo", '{"text": "hi"}', attempt=2))
    assert fact == ToolDone(
        task="k", step=2, call="c1", name="echo", result="hi", duration_ms=1000.0, attempt=2
    )


@pytest.mark.parametrize(
    ("name", "arguments", "code", "detail"),
    [
        ("refuse", "{}", "not_allowed", "not allowed"),
        ("fly", "{}", "unknown_tool", "unknown tool 'fly'"),
        ("echo", "{}", "invalid_arguments", "invalid arguments"),
        ("large", "{}", "result_too_large", "the result"),
    ],
)
async def test_what_cannot_be_done_is_the_answer(
    handlers: Handlers, name: str, arguments: str, code: str, detail: str
) -> None:
    error = await failure(handlers, job(name, arguments))
    assert (error.code, error.family) == (code, "permanent")
    assert error.detail.startswith(detail)


async def test_bad_arguments_name_the_field(handlers: Handlers) -> None:
    assert (await failure(handlers, job("echo"))).field == "text"


@pytest.mark.parametrize("final", [True, False])
async def test_a_passing_trouble_is_tried_again_unless_it_was_the_last_try(
    handlers: Handlers, final: bool
) -> None:
    (fact,) = await handlers.run(job("away", final=final))
    assert isinstance(fact, ToolFailed)
    assert (fact.error.code, fact.retry) == ("search_unavailable", not final)


async def test_a_repeated_delivery_gets_the_first_answer(handlers: Handlers, bench: Bench) -> None:
    both = [handlers.run(job("echo", '{"text": "hi"}', attempt=n)) for n in (1, 2)]
    first, second = await asyncio.gather(*both)
    assert first == second
    assert bench.calls == 1


async def test_an_effect_is_promised_before_it_happens(
    handlers: Handlers, bench: Bench, promises: MemoryPromises
) -> None:
    (fact,) = await handlers.run(job("pay"))
    assert isinstance(fact, ToolDone)
    assert (bench.calls, promises.begun) == (1, {("k", 2, 1): "one"})


async def test_what_another_execution_began_is_a_question_to_a_person(
    handlers: Handlers, bench: Bench, promises: MemoryPromises
) -> None:
    promises.begun["k", 2, 1] = "another"
    (fact,) = await handlers.run(job("pay"))
    assert fact == Parked(task="k", step=2, reason="unknown_outcome", detail="pay {}")
    assert bench.calls == 0


async def test_an_effect_that_takes_too_long_may_have_happened(handlers: Handlers) -> None:
    (fact,) = await handlers.run(job("hang"))
    assert isinstance(fact, Parked)
    assert fact.reason == "unknown_outcome"


async def test_an_effect_that_breaks_is_a_question_when_it_comes_again(handlers: Handlers) -> None:
    with pytest.raises(ZeroDivisionError):
        await handlers.run(job("crash"))
    (fact,) = await handlers.run(job("crash", executor="two"))
    assert isinstance(fact, Parked)


async def test_an_effect_that_says_it_did_not_happen_is_tried_again(handlers: Handlers) -> None:
    (fact,) = await handlers.run(job("lost", final=False))
    assert isinstance(fact, ToolFailed)
    assert fact.retry


async def test_no_effect_without_a_promise(
    handlers: Handlers, bench: Bench, promises: MemoryPromises
) -> None:
    promises.away = True
    with pytest.raises(Transient):
        await handlers.run(job("pay"))
    assert bench.calls == 0


async def test_giving_up_is_a_fact(handlers: Handlers) -> None:
    given = Transient("search_unavailable", "search unavailable").as_failure()
    (fact,) = handlers.give_up(job("away", attempt=5), given)
    assert isinstance(fact, ToolFailed)
    assert (fact.error, fact.attempt) == (given, 5)


async def test_a_call_that_is_too_late_is_not_made(handlers: Handlers, bench: Bench) -> None:
    error = await failure(handlers, job("echo", '{"text": "hi"}', deadline=99.0))
    assert error.code == "deadline_exceeded"
    assert bench.calls == 0


async def test_a_call_ends_with_the_time_of_its_task(handlers: Handlers) -> None:
    error = await failure(handlers, job("slow", deadline=100.005))
    assert (error.code, error.detail) == ("tool_timeout", "timeout")


async def test_a_tool_runs_as_often_at_once_as_it_may(handlers: Handlers, bench: Bench) -> None:
    facts = await asyncio.gather(*(handlers.run(job("slow", step=n)) for n in range(6)))
    assert [type(fact) for (fact,) in facts] == [ToolDone] * 6
    assert bench.most == 2
