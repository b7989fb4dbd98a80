"""The vector store suite on the in-memory twin and on Milvus Lite, and what only a file can do."""

from __future__ import annotations

import asyncio
import fcntl
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import grpc  # type: ignore[import-untyped]  # its stubs are no dependency of ours
import pymilvus.exceptions
import pytest
import pytest_asyncio
import structlog
from pymilvus import MilvusException

from services.retrieval.adapters.memory import MemoryStore
from services.retrieval.adapters.milvus import MilvusStore
from services.retrieval.adapters.milvus_client import MilvusBorder, translated
from shared.errors import Broken, MillraceError, Permanent, Transient
from tests.contract.ports.vector_store_suite import (
    DIMENSION,
    VectorStoreSuite,
    find,
    key,
    rows,
)

LOG = structlog.get_logger()


def milvus(folder: Path, tag: str = "one") -> MilvusStore:
    return MilvusStore(MilvusBorder(str(folder / "index.db")), tag, DIMENSION, LOG)


def locked(file: Path) -> bool:
    """Whether somebody holds the lock that keeps other processes out."""
    with file.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class TestMemoryStore(VectorStoreSuite):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


class TestMilvusLite(VectorStoreSuite):
    @pytest_asyncio.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[MilvusStore]:
        store = milvus(tmp_path)
        assert await store.open()
        yield store
        await store.close()

    async def test_a_restart_keeps_everything(self, tmp_path: Path) -> None:
        first = milvus(tmp_path)
        assert await first.open(), "a new index asks to be filled"
        await first.replace(key(), 5, rows(key(), 0.1, 0.2))
        await first.close()
        second = milvus(tmp_path)
        assert not await second.open()
        assert [hit.text for hit in await find(second, key())] == ["text 0", "text 1"]
        await second.replace(key(), 4, rows(key(), 0.3, text="old"))
        assert await second.count() == 2
        assert second.engine.startswith("milvus_lite")
        await second.close()

    async def test_an_index_of_another_tag_is_dropped(self, tmp_path: Path) -> None:
        first = milvus(tmp_path)
        await first.open()
        await first.replace(key(), 5, rows(key(), 0.1))
        await first.close()
        second = milvus(tmp_path, tag="two")
        assert await second.open(), "built with another model: fill it again"
        assert await find(second, key()) == []
        await second.close()
        third = milvus(tmp_path)
        assert await third.open(), "the first index was dropped, not hidden"
        await third.close()

    async def test_searches_see_a_document_at_every_moment(self, store: MilvusStore) -> None:
        await store.replace(key(), 1, rows(key(), 0.1, 0.2))
        for sequence in range(2, 8):
            await store.replace(key(), sequence, rows(key(), 0.1))
            (hit,) = await find(store, key())
            assert hit.sequence == sequence

    async def test_who_asks_while_it_is_cleared_is_answered(self, store: MilvusStore) -> None:
        await store.replace(key(), 1, rows(key(), 0.0))
        clearing = asyncio.create_task(store.clear())
        await asyncio.sleep(0)
        found = [await find(store, key()), await store.count()]
        await clearing
        assert found == [[], 0]

    async def test_what_is_written_while_it_is_cleared_is_kept(self, store: MilvusStore) -> None:
        clearing = asyncio.create_task(store.clear())
        await asyncio.sleep(0)
        await store.replace(key(), 1, rows(key(), 0.0))
        await clearing
        assert await store.count() == 1

    async def test_closing_twice_is_harmless(self, tmp_path: Path) -> None:
        store = milvus(tmp_path)
        await store.open()
        await store.close()
        await store.close()

    async def test_closing_lets_go_of_the_file(self, tmp_path: Path) -> None:
        store = milvus(tmp_path)
        await store.open()
        assert locked(tmp_path / "index.db" / "LOCK"), "one process at a time"
        await store.close()
        assert not locked(tmp_path / "index.db" / "LOCK")

    async def test_a_server_that_is_away_is_transient(self) -> None:
        border = MilvusBorder("http://127.0.0.1:9")
        with pytest.raises(Transient) as caught:
            await border.connect()
        assert caught.value.code == "index_unavailable"
        await border.close()


class Refused(grpc.RpcError, grpc.Call):  # type: ignore[misc]  # grpc is untyped
    """What grpc raises for a call without permission."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.PERMISSION_DENIED

    initial_metadata = trailing_metadata = details = code
    is_active = time_remaining = cancel = add_callback = code


@pytest.mark.parametrize(
    ("error", "family", "code"),
    [
        (MilvusException(2, "down"), Transient, "index_unavailable"),
        (MilvusException(100, "no collection"), Transient, "index_unavailable"),
        (MilvusException(1100, "bad expression"), Broken, "index_query"),
        (TimeoutError(), Transient, "index_unavailable"),
        (grpc.RpcError(), Transient, "index_unavailable"),
        (Refused(), Permanent, "index_refused"),
    ],
)
def test_vendor_errors_become_ours(
    error: BaseException, family: type[MillraceError], code: str
) -> None:
    found = translated(error)
    assert type(found) is family
    assert found.code == code


def test_the_vendor_has_no_other_errors() -> None:
    """Fails when pymilvus gains a family of errors that the border does not catch."""
    kinds = [
        kind
        for kind in vars(pymilvus.exceptions).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    strangers = {kind.__name__ for kind in kinds if not issubclass(kind, MilvusException)}
    assert strangers == set()


def test_the_vendor_is_quiet() -> None:
    assert not logging.getLogger("pymilvus").isEnabledFor(logging.ERROR)
