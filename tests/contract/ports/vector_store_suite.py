"""What every vector store must do, whatever it is made of. Inherit and give a `store` fixture."""

from __future__ import annotations

import asyncio
import math

import pytest

from services.retrieval.core.ids import chunk_id
from services.retrieval.core.rows import DocumentKey, Hit, Row
from services.retrieval.ports import Query, VectorStore

DIMENSION = 8
HOSTILE = (
    "k0'] or id in ['k1",
    'x" or tenant != "',
    'back\\slash and \\" quote',
    "line\nbreak",
    "\u4e2d\u6587 \U0001f600",
    "%",
    "{tenant}",
    "a" * 512,
)


def direction(angle: float) -> list[float]:
    """A unit vector in the plane of the first two dimensions."""
    return [math.cos(angle), math.sin(angle)] + [0.0] * (DIMENSION - 2)


def rows(key: DocumentKey, *angles: float, text: str = "text") -> list[Row]:
    """One row per angle; its text says which document and ordinal it is."""
    return [
        Row(
            id=chunk_id(key.tenant, key.collection, key.document, n),
            text=f"{text} {n}",
            start=10 * n,
            end=10 * n + 7,
            vector=direction(angle),
        )
        for n, angle in enumerate(angles)
    ]


def key(document: str = "d", tenant: str = "t", collection: str = "c") -> DocumentKey:
    return DocumentKey(tenant, collection, document)


async def find(store: VectorStore, place: DocumentKey, **more: float) -> list[Hit]:
    """The nearest rows to direction 0."""
    limit = int(more.pop("limit", 10))
    query = Query(place.tenant, place.collection, direction(0), limit, fresh=True, **more)
    return await store.search(query)


class VectorStoreSuite:
    """The guarantees of `VectorStore`, one test each."""

    async def test_what_is_put_is_found_with_all_its_fields(self, store: VectorStore) -> None:
        await store.replace(key(), 7, rows(key(), 0.0))
        (hit,) = await find(store, key())
        assert (hit.document, hit.text, hit.start, hit.end, hit.sequence) == (
            "d",
            "text 0",
            0,
            7,
            7,
        )
        assert hit.score == pytest.approx(1.0, abs=1e-5)

    async def test_scores_are_cosines_best_first(self, store: VectorStore) -> None:
        await store.replace(key(), 1, rows(key(), 2.0, 0.5, 1.0, 3.1))
        hits = await find(store, key(), min_score=-1.0)
        assert [hit.text for hit in hits] == ["text 1", "text 2", "text 0", "text 3"]
        expected = [math.cos(angle) for angle in (0.5, 1.0, 2.0, 3.1)]
        assert [hit.score for hit in hits] == pytest.approx(expected, abs=1e-5)

    async def test_the_limit_and_the_lowest_score_hold(self, store: VectorStore) -> None:
        await store.replace(key(), 1, rows(key(), 0.1, 0.2, 0.3, 1.4))
        assert len(await find(store, key(), limit=2)) == 2
        assert len(await find(store, key(), min_score=0.9)) == 3
        assert await find(store, key(), min_score=0.999) == []

    async def test_tenants_and_collections_are_apart(self, store: VectorStore) -> None:
        places = [key(tenant="a"), key(tenant="b"), key(tenant="a", collection="other")]
        for number, place in enumerate(places, start=1):
            await store.replace(place, number, rows(place, 0.0, text=f"{place}"))
        for place in places:
            assert [hit.text for hit in await find(store, place)] == [f"{place} 0"]
        await store.delete(places[0], 9)
        assert await find(store, places[0]) == []
        assert len(await find(store, places[1])) == len(await find(store, places[2])) == 1

    async def test_a_new_version_replaces_all_of_the_old_one(self, store: VectorStore) -> None:
        await store.replace(key(), 1, rows(key(), 0.1, 0.2, 0.3, text="old"))
        await store.replace(key(), 2, rows(key(), 0.1, text="new"))
        assert [hit.text for hit in await find(store, key())] == ["new 0"]
        assert await store.count() == 1

    async def test_a_repetition_changes_nothing(self, store: VectorStore) -> None:
        for _ in range(2):
            await store.replace(key(), 3, rows(key(), 0.1, 0.2))
        assert await store.count() == 2
        for _ in range(2):
            await store.delete(key(), 4)
        assert await store.count() == 0

    async def test_an_older_version_changes_nothing(self, store: VectorStore) -> None:
        await store.replace(key(), 5, rows(key(), 0.1, text="new"))
        await store.replace(key(), 4, rows(key(), 0.1, 0.2, text="old"))
        await store.delete(key(), 4)
        assert [hit.text for hit in await find(store, key())] == ["new 0"]

    async def test_no_rows_empty_the_document(self, store: VectorStore) -> None:
        await store.replace(key(), 1, rows(key(), 0.1))
        await store.replace(key(), 2, [])
        assert await find(store, key()) == []

    async def test_hostile_ids_name_themselves_only(self, store: VectorStore) -> None:
        for number, document in enumerate(HOSTILE, start=1):
            await store.replace(key(document), number, rows(key(document), 0.1))
        assert {hit.document for hit in await find(store, key(), limit=50)} == set(HOSTILE)
        for left, document in enumerate(HOSTILE, start=1):
            await store.delete(key(document), 99)
            assert await store.count() == len(HOSTILE) - left

    async def test_writers_in_parallel_lose_nothing(self, store: VectorStore) -> None:
        documents = [key(str(number)) for number in range(24)]
        await asyncio.gather(*(store.replace(d, 1, rows(d, 0.1, 0.2)) for d in documents))
        assert await store.count() == 48
        await asyncio.gather(*(store.delete(d, 1) for d in documents[::2]))
        assert await store.count() == 24

    async def test_a_full_index_is_not_rebuilt(self, store: VectorStore) -> None:
        await store.replace(key(), 1, rows(key(), 0.1))
        assert not await store.open()

    async def test_what_was_cleared_is_gone_for_everybody(self, store: VectorStore) -> None:
        places = [key(tenant="a"), key(tenant="b", collection="other")]
        for place in places:
            await store.replace(place, 9, rows(place, 0.0))
        await store.clear()
        assert await store.count() == 0
        assert [await find(store, place) for place in places] == [[], []]
        await store.clear()

    async def test_after_clearing_an_older_version_is_taken(self, store: VectorStore) -> None:
        """A backup that was restored may be older than what the index had seen."""
        await store.replace(key(), 9, rows(key(), 0.0, 0.1))
        await store.clear()
        await store.replace(key(), 4, rows(key(), 0.0))
        assert [hit.sequence for hit in await find(store, key())] == [4]
