"""Indexing and searching with a small embedder of letters and the in-memory store."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from services.retrieval.adapters.memory import MemoryStore
from services.retrieval.core.rows import DocumentKey, StoredDocument
from services.retrieval.handlers import MAX_TEXTS, Handlers, Options
from services.retrieval.ports import Embedded, Standing
from shared.contracts.base import Message
from shared.contracts.retrieval import EmbedRequest, SearchRequest
from shared.errors import Permanent, Transient


class Letters:
    """A deterministic embedder: how often each letter occurs."""

    model, tag, dimension = "letters", "letters/27", 27

    async def embed(self, texts: Sequence[str]) -> Embedded:
        await asyncio.sleep(0)
        return Embedded([self._vector(text) for text in texts], sum(map(len, texts)))

    def _vector(self, text: str) -> list[float]:
        counts = [1.0] + [float(text.casefold().count(chr(97 + n))) for n in range(26)]
        norm = math.sqrt(sum(x * x for x in counts))
        return [x / norm for x in counts]

    def count_tokens(self, text: str) -> int:
        return len(text.split())


class Place:
    """A watermark that tests move by hand."""

    def __init__(self) -> None:
        self.at = 0

    async def watermark(self) -> int:
        return self.at

    async def standing(self) -> Standing:
        return Standing(self.at, 9, 9 - self.at)

    async def rewind(self) -> int:
        self.at = 0
        return 9


class Service:
    def __init__(self) -> None:
        self.store, self.place = MemoryStore(), Place()
        self.handlers = Handlers(
            Letters(), self.store, self.place, Options(chunk_tokens=6, patience=0.1)
        )

    async def put(self, sequence: int, text: str, document: str = "d", tenant: str = "t") -> None:
        key = DocumentKey(tenant, "c", document)
        assert await self.handlers.index(StoredDocument(key, sequence, text, False)) == []

    async def delete(self, sequence: int, document: str = "d") -> None:
        key = DocumentKey("t", "c", document)
        await self.handlers.index(StoredDocument(key, sequence, "", True))

    async def texts(self, query: str = "x", tenant: str = "t", min_seq: int = 0) -> list[str]:
        request = SearchRequest(
            tenant=tenant, collection="c", query=query, limit=9, min_seq=min_seq
        )
        return [passage.text for passage in (await self.handlers.search(request)).results]


@pytest.fixture
def service() -> Service:
    return Service()


async def test_a_passage_is_found_with_its_place(service: Service) -> None:
    await service.put(3, "zebra zoo. Nothing else matters here at all.")
    request = SearchRequest(tenant="t", collection="c", query="zzz zebra", limit=1)
    (passage,) = (await service.handlers.search(request)).results
    assert (
        passage.text == "zebra zoo. Nothing else matters here at all."[passage.start : passage.end]
    )
    assert passage.text.startswith("zebra")
    assert (passage.document, passage.sequence) == ("d", 3)


async def test_a_highlight_is_the_sentence_that_answers(service: Service) -> None:
    await service.put(1, "Aaa bbb. Zzz.", "a")
    await service.put(2, "Zzz zzz aaa.", "b")
    asked = SearchRequest(tenant="t", collection="c", query="zzz", limit=2)
    assert [one.document for one in (await service.handlers.search(asked)).results] == ["b", "a"]
    found = (await service.handlers.search(replace(asked, highlight=True))).results
    assert [(one.document, one.highlight) for one in found] == [
        ("a", "Zzz."),
        ("b", "Zzz zzz aaa."),
    ]


async def test_no_highlight_where_none_was_asked_for(service: Service) -> None:
    await service.put(1, "aaa bbb. zzz zoo.")
    asked = SearchRequest(tenant="t", collection="c", query="zzz")
    assert [one.highlight for one in (await service.handlers.search(asked)).results] == [""]


async def test_a_search_that_finds_nothing_has_nothing_to_highlight(service: Service) -> None:
    asked = SearchRequest(tenant="t", collection="c", query="zzz", highlight=True)
    assert (await service.handlers.search(asked)).results == ()


async def test_a_new_version_replaces_the_old_one(service: Service) -> None:
    await service.put(1, "First sentence of old text here. Second sentence of old text here.")
    await service.put(2, "new text")
    assert await service.texts() == ["new text"]


async def test_an_old_version_changes_nothing(service: Service) -> None:
    await service.put(2, "new text")
    await service.put(1, "old text")
    assert await service.texts() == ["new text"]


async def test_a_deleted_document_does_not_come_back(service: Service) -> None:
    await service.put(1, "text")
    await service.delete(3)
    await service.put(2, "late text")
    assert await service.texts() == []


async def test_a_deletion_waits_for_the_version_before_it(service: Service) -> None:
    await asyncio.gather(service.put(1, "slow to embed"), service.delete(2))
    assert await service.texts() == []


async def test_versions_in_parallel_end_with_the_newest(service: Service) -> None:
    await asyncio.gather(*(service.put(n, f"version {n}") for n in (1, 2, 3, 4)))
    assert await service.texts() == ["version 4"]
    assert service.handlers._order == {}, "locks are not kept"


async def test_tenants_do_not_see_each_other(service: Service) -> None:
    await service.put(1, "text of a", tenant="a")
    await service.put(2, "text of b", tenant="b")
    assert await service.texts(tenant="a") == ["text of a"]
    assert await service.texts(tenant="c") == []


async def test_an_empty_document_has_no_passages(service: Service) -> None:
    await service.put(1, "text")
    await service.put(2, "  ")
    assert await service.texts() == []


async def test_a_reader_of_its_own_writes_waits(service: Service) -> None:
    reading = asyncio.create_task(service.texts(min_seq=5))
    await asyncio.sleep(0.02)
    assert not reading.done()
    await service.put(5, "text")
    service.place.at = 5
    assert await reading == ["text"]


async def test_the_wait_is_bounded(service: Service) -> None:
    with pytest.raises(Transient) as caught:
        await service.texts(min_seq=5)
    assert caught.value.code == "index_behind"


@pytest.mark.parametrize(
    ("field", "bad"),
    [("query", {"query": " "}), ("limit", {"limit": 0}), ("tenant", {"tenant": "a b"})],
)
async def test_a_bad_question_names_its_field(
    service: Service, field: str, bad: dict[str, object]
) -> None:
    good: dict[str, object] = {"tenant": "t", "collection": "c", "query": "x"}
    with pytest.raises(Permanent) as caught:
        await service.handlers.search(SearchRequest(**good | bad))  # type: ignore[arg-type]
    assert caught.value.field == field


async def test_embedding_counts_tokens_and_bounds_texts(service: Service) -> None:
    reply = await service.handlers.embed(EmbedRequest(texts=("ab", "c")))
    assert (len(reply.vectors), reply.model, reply.tokens) == (2, "letters", 3)
    with pytest.raises(Permanent):
        await service.handlers.embed(EmbedRequest(texts=("a",) * (MAX_TEXTS + 1)))


async def test_the_state_names_engine_and_model(service: Service) -> None:
    await service.put(1, "text")
    state = await service.handlers.state(Message())
    assert (state.chunks, state.engine, state.model) == (1, "memory", "letters")


async def test_a_rebuild_empties_the_index_and_begins_again(service: Service) -> None:
    await service.put(3, "zebra zoo")
    service.place.at = 9
    state = await service.handlers.rebuild(Message())
    assert (state.chunks, state.watermark, state.newest, state.remaining) == (0, 0, 9, 9)
    await service.put(3, "zebra zoo")
    assert await service.texts("zebra") == ["zebra zoo"]
