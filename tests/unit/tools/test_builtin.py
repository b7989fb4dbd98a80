"""Each built-in tool as the model meets it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest

from services.tools.adapters.builtin import Builtin
from services.tools.adapters.memory import LocalMemory
from services.tools.core.legs import MOST, Legs
from services.tools.core.registry import Registry, ToolContext
from shared.contracts.facts import Leg
from shared.contracts.retrieval import Passage, SearchRequest
from shared.errors import Permanent

NOW = datetime(2026, 11, 22, 15, 45, tzinfo=UTC)


class OneBook:
    """A knowledge port with one passage, which remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[SearchRequest] = []

    async def search(self, request: SearchRequest) -> Sequence[Passage]:
        self.asked.append(request)
        text = "## Hotels\nOne night costs\n140 euros."
        return [Passage(document="travel.md", text=text, score=0.7, start=0, end=36, sequence=4)]


@pytest.fixture
def book() -> OneBook:
    return OneBook()


@pytest.fixture
def registry(book: OneBook) -> Registry:
    return Registry(Builtin(book, LocalMemory(), lambda: NOW, min_score=0.35).tools())


def context(session: str = "s", tenant: str = "t") -> ToolContext:
    return ToolContext(tenant=tenant, session=session, task="k", step=1, call="c", collection="h")


async def call(registry: Registry, name: str, where: ToolContext, **arguments: str) -> str:
    tool = registry.get(name)
    return await tool.run(where, tool.read(orjson.dumps(arguments).decode()))


def test_the_built_in_tools(registry: Registry) -> None:
    names = [spec.name for spec in registry.specs()]
    assert names == ["calculator", "current_time", "recall", "remember", "search_knowledge"]
    for spec in registry.specs():
        assert "context" not in orjson.dumps(spec.parameters).decode()


async def test_calculator(registry: Registry) -> None:
    assert await call(registry, "calculator", context(), expression="17 * 23") == "391"


async def test_a_search_is_noted_as_a_leg_without_its_words(registry: Registry) -> None:
    ticks = iter((2.5, 2.75))
    where = replace(context(), legs=Legs(lambda: next(ticks), begun=2.0))
    await call(registry, "search_knowledge", where, query="hotel")
    figures: dict[str, str | int] = {"collection": "h", "passages": 1}
    assert where.legs.found == (
        Leg(name="retrieval", start_ms=500.0, duration_ms=250.0, figures=figures),
    )


async def test_a_search_that_fails_took_its_time_all_the_same() -> None:
    legs = Legs()
    with pytest.raises(Permanent), legs.leg("retrieval"):
        raise Permanent("no", "no")
    assert len(legs.found) == 1


def test_a_fact_does_not_grow_with_what_a_tool_does_in_a_loop() -> None:
    legs = Legs()
    for _ in range(MOST + 5):
        with legs.leg("retrieval"):
            pass
    assert len(legs.found) == MOST


async def test_search_stays_in_the_tenant_and_collection(registry: Registry, book: OneBook) -> None:
    result = await call(registry, "search_knowledge", context(tenant="acme"), query="hotel")
    assert result == "[1] travel.md: Hotels: One night costs 140 euros."
    assert book.asked == [
        SearchRequest(
            tenant="acme", collection="h", query="hotel", limit=3, min_score=0.35, highlight=True
        )
    ]


async def test_current_time(registry: Registry) -> None:
    assert await call(registry, "current_time", context()) == "2026-11-22 15:45 Sunday (UTC)"
    there = await call(registry, "current_time", context(), timezone="Europe/Paris")
    assert there == "2026-11-22 16:45 Sunday (Europe/Paris)"


@pytest.mark.parametrize("zone", ["Atlantis/Poseidonis", "", "../../etc/passwd", "x" * 300])
async def test_an_unknown_zone_is_an_error(registry: Registry, zone: str) -> None:
    with pytest.raises(Permanent) as caught:
        await call(registry, "current_time", context(), timezone=zone)
    assert caught.value.detail == f'unknown timezone "{zone[:64]}"'


@pytest.mark.parametrize("asked", ["badge number", "My Badge  Number", "the badge number?"])
async def test_a_note_is_found_however_it_is_named(registry: Registry, asked: str) -> None:
    assert await call(registry, "remember", context(), key="my badge number", value="42") == "saved"
    assert await call(registry, "recall", context(), key=asked) == "42"


async def test_notes_belong_to_their_session(registry: Registry) -> None:
    await call(registry, "remember", context(), key="code", value="1")
    assert await call(registry, "recall", context(session="x"), key="code") == "nothing stored"
    assert await call(registry, "recall", context(tenant="x"), key="code") == "nothing stored"


async def test_the_last_note_wins(registry: Registry) -> None:
    for value in ("1", "2", "2"):
        await call(registry, "remember", context(), key="code", value=value)
    assert await call(registry, "recall", context(), key="code") == "2"


@pytest.mark.parametrize("key", ["", "  ", "x" * 201, "?"])
async def test_a_note_needs_a_name(registry: Registry, key: str) -> None:
    with pytest.raises(Permanent) as caught:
        await call(registry, "remember", context(), key=key, value="1")
    assert caught.value.code == "invalid_key"


async def test_a_note_has_a_largest_size(registry: Registry) -> None:
    with pytest.raises(Permanent) as caught:
        await call(registry, "remember", context(), key="k", value="x" * 5000)
    assert caught.value.field == "value"
