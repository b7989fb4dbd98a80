"""A call ends in one fact, in time, or is tried again."""

from __future__ import annotations

import asyncio

import pytest

from services.tools.core.registry import Registry, as_tool
from services.tools.handlers import MAX_RESULT, Assignment, Clock, Handlers
from shared.contracts.base import SessionRef
from shared.contracts.facts import ToolDone, ToolFailed
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

    async def large(self) -> str:
        """Say too much"""
        return "x" * (MAX_RESULT + 1)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def handlers(bench: Bench) -> Handlers:
    tools = [as_tool(f) for f in (bench.echo, bench.refuse, bench.away, bench.large)]
    tools.append(as_tool(bench.slow, concurrency=2))
    ticks = iter(range(10_000))
    return Handlers(Registry(tools), Clock(lambda: 100.0, lambda: float(next(ticks))))


def job(name: str, arguments: str = "{}", deadline: float = 0.0, attempt: int = 1) -> Assignment:
    ref = SessionRef("t", "s")
    work = RunTool(
        ref=ref, task="k", step=2, call="c1", name=name, arguments=arguments, deadline=deadline
    )
    return Assignment(work, attempt)


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


async def test_a_passing_trouble_is_left_to_the_retry(handlers: Handlers) -> None:
    with pytest.raises(Transient):
        await handlers.run(job("away"))


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
    with pytest.raises(Transient) as caught:
        await handlers.run(job("slow", deadline=100.005))
    assert (caught.value.code, caught.value.detail) == ("tool_timeout", "timeout")


async def test_a_tool_runs_as_often_at_once_as_it_may(handlers: Handlers, bench: Bench) -> None:
    facts = await asyncio.gather(*(handlers.run(job("slow")) for _ in range(6)))
    assert [type(fact) for (fact,) in facts] == [ToolDone] * 6
    assert bench.most == 2
