"""Ledger stores: on SQLite, on PostgreSQL where the machine has one, and the twin in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.ledger.adapters.memory import MemoryStore
from services.ledger.adapters.sql import SqlStore
from services.ledger.ports import LedgerStore
from tests.contract.ports.ledger_stores import (
    LOG,
    Picture,
    emptied,
    feed,
    picture,
)
from tests.fakes import postgres


@pytest.fixture(scope="package")
def server() -> Iterator[str]:
    with postgres.running() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LedgerStore]:
    made: LedgerStore = MemoryStore()
    if request.param == "sqlite":
        made = SqlStore(f"sqlite+aiosqlite:///{tmp_path / 'ledger.db'}")
    elif request.param == "postgresql":
        made = SqlStore(await emptied(request.getfixturevalue("server")))
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def expected() -> Picture:
    twin = MemoryStore()
    await feed(twin, LOG)
    return await picture(twin)
