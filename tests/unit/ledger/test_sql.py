"""What only the SQL store can get wrong: schema versions, pragmas, vendor errors."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from services.ledger.adapters.sql import SqlStore
from services.ledger.core import SUBMITTED, Change
from shared.contracts.ledger import UsageQuery
from shared.errors import Broken, Permanent, Transient


def url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store = SqlStore(url(path))
    await store.open()
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE projection SET schema_version = 99")
    connection.close()
    newer = SqlStore(url(path))
    with pytest.raises(Permanent, match="ledger_schema_newer"):
        await newer.open()
    await newer.close()


async def test_the_database_survives_a_loss_of_power_and_has_a_view(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store = SqlStore(url(path))
    await store.open()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("SELECT count(*) FROM usage").fetchone() == (0,)
    connection.close()
    await store.close()


async def test_an_unreachable_database_is_transient(tmp_path: Path) -> None:
    store = SqlStore(url(tmp_path / "no-such-folder" / "ledger.db"))
    with pytest.raises(Transient, match="ledger_unavailable"):
        await store.open()
    await store.close()
    await asyncio.sleep(0.1)  # the driver's thread ends a moment after its answer


async def test_an_unknown_dialect_is_refused() -> None:
    with pytest.raises(Permanent, match="ledger_database_unknown"):
        await SqlStore("mysql+aiomysql://localhost/x").open()


async def test_a_value_the_database_cannot_hold_is_our_bug() -> None:
    store = SqlStore("sqlite+aiosqlite://")
    await store.open()
    values = {"agent": "a", "submitted": 1.0, "input": 2**70}
    with pytest.raises(Broken, match="ledger_statement"):
        await store.apply([Change(SUBMITTED, ("default", "s", "t"), 1, values)], 1)
    assert (await store.position()).sequence == 0
    await store.close()


async def test_a_closed_store_says_so() -> None:
    with pytest.raises(Broken, match="ledger_closed"):
        await SqlStore("sqlite+aiosqlite://").usage(UsageQuery(tenant="default"))
