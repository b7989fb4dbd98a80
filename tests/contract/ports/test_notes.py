"""The suite of notes on the in-memory twin and on a real bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.tools.adapters.kv import BucketMemory
from services.tools.adapters.memory import LocalMemory
from shared.contracts.base import SessionRef
from shared.errors import Transient
from tests.contract.ports.notes_suite import NotesSuite
from tests.integration.edge_system import EdgeSystem, edge_system


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[EdgeSystem]:
    async with edge_system(tmp_path) as system:
        yield system


class TestLocalMemory(NotesSuite):
    @pytest.fixture
    def notes(self) -> LocalMemory:
        return LocalMemory()


@pytest.mark.integration
class TestBucketMemory(NotesSuite):
    @pytest.fixture
    async def notes(self, system: EdgeSystem) -> AsyncIterator[BucketMemory]:
        async with system.client() as client:
            yield BucketMemory(client.bus)

    async def test_a_lost_connection_is_transient(self, system: EdgeSystem) -> None:
        async with system.client() as client:
            notes = BucketMemory(client.bus)
        with pytest.raises(Transient) as caught:
            await notes.get(SessionRef("t", "s"), "key")
        assert (caught.value.code, caught.value.detail) == (
            "storage_unavailable",
            "storage unavailable",
        )
