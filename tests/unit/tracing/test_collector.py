"""A collector that is away, comes back, and does not like everything, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from services.tracing.adapters import collector as adapter
from services.tracing.adapters.collector import OtlpCollector, Told
from shared.errors import Transient
from shared.trace import Span, TraceContext
from tests.integration.waiting import until

SPAN = Span("root", TraceContext("ab" * 16, "cd" * 8), 1.0, 2.0, "sessions")


@dataclass
class Box:
    """An outbox that takes what it likes."""

    away: bool = False
    bad: str = ""
    sent: list[list[str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    async def send(self, spans: Sequence[Span]) -> bool:
        await self.gate.wait()
        names = [span.name for span in spans]
        if self.away or self.bad in names:
            return False
        if names:
            self.sent.append(names)
        return True

    async def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(adapter, "LONGEST_DELAY", 0.002)


@pytest.fixture
def box() -> Box:
    found = Box()
    found.gate.set()
    return found


@pytest.fixture
def collector(box: Box) -> OtlpCollector:
    told = Told(
        away=lambda: box.said.append("away"),
        back=lambda: box.said.append("back"),
        given_up=lambda trace: box.said.append(f"gave up {trace[:2]}"),
    )
    return OtlpCollector(box, told)  # type: ignore[arg-type]  # as much of one as it needs


def trace(name: str, spans: int = 1) -> list[Span]:
    return [replace(SPAN, name=name)] * spans


async def test_what_comes_meanwhile_is_sent_together(collector: OtlpCollector, box: Box) -> None:
    box.gate.clear()
    first = asyncio.create_task(collector.take(trace("a")))
    await asyncio.sleep(0)
    rest = [asyncio.create_task(collector.take(trace(name))) for name in "bcd"]
    await asyncio.sleep(0.01)
    box.gate.set()
    await asyncio.gather(first, *rest)
    assert box.sent == [["a"], ["b", "c", "d"]]


async def test_a_request_is_bounded_but_a_trace_is_whole(
    collector: OtlpCollector, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "MOST", 4)
    sizes = {"a": 1, "b": 3, "c": 2, "d": 9}
    await asyncio.gather(*(collector.take(trace(name, size)) for name, size in sizes.items()))
    assert [len(names) for names in box.sent] == [4, 2, 9]


async def test_nothing_is_lost_while_it_is_away(collector: OtlpCollector, box: Box) -> None:
    box.away = True
    taking = [asyncio.create_task(collector.take(trace(name))) for name in "abc"]
    await until(lambda: box.said)
    await asyncio.sleep(0.01)
    assert not any(one.done() for one in taking)
    box.away = False
    await asyncio.gather(*taking)
    assert sorted(name for names in box.sent for name in names) == ["a", "b", "c"]
    assert box.said == ["away", "back"], "each change is told once"


async def test_a_trace_that_it_does_not_take_is_in_nobodys_way(
    collector: OtlpCollector, box: Box
) -> None:
    box.bad = "b"
    await asyncio.gather(*(collector.take(trace(name)) for name in "abc"))
    assert sorted(name for names in box.sent for name in names) == ["a", "c"]
    assert box.said == ["gave up ab"]


async def test_whoever_waits_is_told_when_it_stops(collector: OtlpCollector, box: Box) -> None:
    box.away = True
    taking = asyncio.create_task(collector.take(trace("a")))
    await until(lambda: box.said)
    await collector.stop()
    for attempt in (taking, collector.take(trace("b"))):
        with pytest.raises(Transient) as stopped:
            await attempt
        assert stopped.value.code == "tracing_stops"
    assert box.closed
