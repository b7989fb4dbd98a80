"""What the bus costs a real engine: the small model through the bus against the same engine alone.

All ways in turns, in the same worker: first its engine alone, then stateless completions over the
bus (client, router, worker), then tasks of the durable loop. On a machine that does other things as
well, read the cost of the best rounds, or that in CPU; the median is over pairs of rounds that
follow each other.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from shared.bus.connect import Bus
from shared.bus.direct import complete
from shared.client import Millrace
from shared.clock import monotonic
from shared.contracts.agents import Sampling
from shared.contracts.work import ChatMessage, DirectRequest
from shared.errors import error_of
from tests.bench.loop import ready
from tests.bench.system import System, cpu_seconds, system

TOKENS, PAIRS, LEVELS = 256, 7, (1, 4, 16)
LONG, FIRSTS = 900, 7
"""Words of a prompt that is worth to be remembered, and how often it is asked."""
AGENT = f"sampling: {{temperature: 0, max_tokens: {TOKENS}}}\n"
WORKER = ["tests.bench.engine_worker"]
_names = itertools.count()


@dataclass(frozen=True)
class Ran:
    """Answers that ran at once; `first_ms` is how long the first one took to begin."""

    tokens: float
    seconds: float
    first_ms: float


@dataclass(frozen=True)
class Pairs:
    """Of one way at one level: tokens a second, and milliseconds of the worker's CPU for 1,000."""

    rates: list[float]
    cpu_ms: list[float]


Way = Callable[[list[str], int], Awaitable[Ran]]


def texts(count: int) -> list[str]:
    """Prompts of which no two begin alike."""
    return [f"{next(_names)} says what the mill does all day, and why." for _ in range(count)]


async def asked(bus: Bus, what: str, **arguments: Any) -> dict[str, float]:
    """Of the worker's engine alone."""
    found: dict[str, float] = orjson.loads(
        await bus.request(f"bench.{what}", orjson.dumps(arguments), 120.0)
    )
    return found


def alone(bus: Bus) -> Way:
    async def run(prompts: list[str], tokens: int) -> Ran:
        found = await asked(bus, "answers", texts=prompts, tokens=tokens)
        return Ran(found["tokens"], found["seconds"], found["first_ms"])

    return run


def completions(bus: Bus) -> Way:
    async def one(text: str, tokens: int) -> tuple[int, float]:
        request = DirectRequest(
            id=f"bench-{next(_names)}",
            tenant="default",
            model="default",
            messages=(ChatMessage(role="user", content=text),),
            sampling=Sampling(temperature=0, max_tokens=tokens),
        )
        begun, first, said = monotonic(), 0.0, 0
        async with aclosing(complete(bus, request)) as events:
            async for event in events:
                if event.error is not None:
                    raise error_of(event.error)
                first = first or monotonic() - begun
                said = event.done.usage.output if event.done is not None else said
        return said, first * 1e3

    async def run(prompts: list[str], tokens: int) -> Ran:
        begun = monotonic()
        ran = await asyncio.gather(*(one(text, tokens) for text in prompts))
        return Ran(sum(said for said, _ in ran), monotonic() - begun, ran[0][1])

    return run


def tasks(client: Millrace) -> Way:
    async def one(text: str) -> int:
        task = await client.submit("writer", text, session=f"bench{next(_names)}")
        done = await task.result(timeout=120)
        if done.error is not None:
            raise error_of(done.error)
        return done.totals.usage.output

    async def run(prompts: list[str], _tokens: int) -> Ran:
        begun = monotonic()
        said = await asyncio.gather(*map(one, prompts))
        return Ran(sum(said), monotonic() - begun, 0.0)

    return run


async def rates(ways: dict[str, Way], worker: int) -> dict[int, dict[str, Pairs]]:
    """The ways in turns, at each level."""
    found: dict[int, dict[str, Pairs]] = {}
    for level in LEVELS:
        for way in ways.values():
            await way(texts(level), 16)  # warm up
        found[level] = {name: Pairs([], []) for name in ways}
        for _ in range(PAIRS):
            for name, way in ways.items():
                before = cpu_seconds([worker])
                ran = await way(texts(level), TOKENS)
                used = cpu_seconds([worker]) - before
                found[level][name].rates.append(ran.tokens / ran.seconds)
                found[level][name].cpu_ms.append(used * 1e6 / ran.tokens)
    return found


async def firsts(way: Way) -> tuple[float, float]:
    """Milliseconds to the first word of a long prompt: new, and again with another end."""
    new, again = [], []
    for _ in range(FIRSTS):
        long = f"{next(_names)} " + "grain by grain " * (LONG // 3)
        new.append((await way([long], 1)).first_ms)
        again.append((await way([f"{long} and so on"], 1)).first_ms)
    return median(new), median(again)


async def cancelled(bus: Bus) -> float:
    """Milliseconds from the moment a client hangs up until the engine has a free slot again."""
    took = []
    for text in texts(8):
        request = DirectRequest(
            id=f"bench-{next(_names)}", tenant="default", model="default",
            messages=(ChatMessage(role="user", content=text),),
            sampling=Sampling(temperature=0, max_tokens=2000),
        )  # fmt: skip
        async with aclosing(complete(bus, request)) as events:
            await anext(events)
        begun = monotonic()
        await asked(bus, "idle")
        took.append(monotonic() - begun)
    return median(took) * 1e3


def show_rates(found: dict[int, dict[str, Pairs]]) -> Table:
    title = f"the small model, {TOKENS} tokens an answer; the worker's CPU for 1,000 tokens"
    table = Table(title=title)
    for column in ("at once", "", "best tok/s", "cost", "median", "cost", "CPU ms", "cost"):
        table.add_column(column, justify="right")
    for level, ways in found.items():
        base = ways["alone"]
        for name, mine in ways.items():
            pairs = zip(mine.rates, base.rates, strict=True)
            costs = (
                1 - max(mine.rates) / max(base.rates),
                1 - median(ours / theirs for ours, theirs in pairs),
                sum(mine.cpu_ms) / sum(base.cpu_ms) - 1,
            )
            first, second, third = (f"{cost:+.1%}" if mine is not base else "" for cost in costs)
            table.add_row(
                str(level) if mine is base else "", name,
                f"{max(mine.rates):.0f}", first, f"{median(mine.rates):.0f}", second,
                f"{mean(mine.cpu_ms):.0f}", third,
            )  # fmt: skip
    return table


async def measure(running: System, worker: int) -> None:
    bus, console = running.bus, Console(width=100)
    ways = {"alone": alone(bus), "completions": completions(bus), "tasks": tasks(Millrace(bus))}
    await asked(bus, "watch")
    await asyncio.sleep(2.0)
    idle = await asked(bus, "lag")
    console.print(show_rates(await rates(ways, worker)))
    table = Table(title=f"milliseconds to the first word, a prompt of {LONG} words")
    for column in ("", "new", "known prefix"):
        table.add_column(column, justify="right")
    for name in ("alone", "completions"):
        new, again = await firsts(ways[name])
        table.add_row(name, f"{new:.1f}", f"{again:.1f}")
    console.print(table)
    table = Table(title="the worker's event loop, milliseconds late")
    for column in ("", "p50", "p99", "most"):
        table.add_column(column, justify="right")
    table.add_row("idle", *(f"{idle[name]:.2f}" for name in ("p50_ms", "p99_ms", "most_ms")))
    for name in ("alone", "completions"):
        await asked(bus, "watch")
        for _ in range(4):
            await ways[name](texts(16), TOKENS)
        late = await asked(bus, "lag")
        table.add_row(
            f"16 {name}", *(f"{late[one]:.2f}" for one in ("p50_ms", "p99_ms", "most_ms"))
        )
    console.print(table)
    for level in LEVELS:
        found = await asked(bus, "cancelled", texts=texts(level))
        console.print(
            f"abort until the slot is free, {level} running: "
            f"p50 {found['median_ms']:.1f} ms, most {found['most_ms']:.1f} ms"
        )
    console.print(f"a client hangs up until the slot is free: p50 {await cancelled(bus):.1f} ms")
    console.print(f"load average of the machine: {os.getloadavg()[0]:.1f}")


async def bench() -> None:
    """Run it and print the tables."""
    modules = [["services.sessions"], ["services.router"], WORKER]
    async with system({"writer": AGENT}) as running:
        with running.processes(modules) as pids:
            await ready(running.bus, ("sessions", "router", "inference"))
            await measure(running, pids[modules.index(WORKER)])
