"""Migrations: from every schema that a release has left behind to this one, and only once."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command

from services.ledger.adapters import schema
from services.ledger.adapters.migrating import config_for, migrate
from services.ledger.adapters.sql import SqlStore
from services.ledger.handlers.questions import total
from shared.contracts.ledger import TasksQuery, UsageQuery
from shared.errors import Permanent
from tests.fakes.ledger_log import billed, eventful

OLD = (Path(__file__).parent / "schema_2.sql").read_text()
"""What the release before Alembic had made of the eventful log."""
FIRST = (
    "DROP VIEW usage; DROP TABLE deletions; DROP TABLE erased;"
    "CREATE VIEW usage AS SELECT tenant FROM steps; UPDATE projection SET schema_version = 1"
)


def url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def sql(path: Path, script: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


def ask(path: Path, question: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(question).fetchall()
    finally:
        connection.close()


async def test_the_migrations_make_what_the_metadata_says() -> None:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        migrate(connection)
        command.check(config_for(connection))
        names = {one["name"] for one in sa.inspect(connection).get_columns(schema.usage.name)}
        assert names == set(schema.usage.c.keys())
    engine.dispose()


@pytest.mark.parametrize("script", [OLD, OLD + FIRST], ids=["2", "1"])
async def test_an_older_database_keeps_its_rows(tmp_path: Path, script: str) -> None:
    path = tmp_path / "ledger.db"
    sql(path, script)
    store = SqlStore(url(path))
    await store.open()
    found = total(await store.usage(UsageQuery(tenant="default")))
    assert (found.usage, found.price) == billed(eventful(), "default")
    assert len(await store.tasks(TasksQuery(tenant="default"))) == 3
    assert (await store.position()).sequence == eventful()[-1].seq
    await store.close()
    assert ask(path, "SELECT version_num FROM alembic_version") == [("0003",)]
    assert ask(path, "SELECT schema_version FROM projection") == [(schema.SCHEMA_VERSION,)]


async def test_several_start_at_once_on_an_old_database(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    sql(path, OLD)
    stores = [SqlStore(url(path)) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    counts = [len(await store.tasks(TasksQuery(tenant="default"))) for store in stores]
    await asyncio.gather(*(store.close() for store in stores))
    assert counts == [3] * 4


async def test_half_a_migration_leaves_nothing(tmp_path: Path) -> None:
    """The second revision fails on a column that is there already; the first is undone too."""
    path = tmp_path / "ledger.db"
    sql(path, OLD + "ALTER TABLE completions ADD COLUMN key_id TEXT;")
    before = ask(path, "SELECT name, sql FROM sqlite_master ORDER BY name")
    store = SqlStore(url(path))
    with pytest.raises(Exception, match="ledger_"):
        await store.open()
    await store.close()
    assert ask(path, "SELECT name, sql FROM sqlite_master ORDER BY name") == before


async def test_a_revision_of_a_later_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store = SqlStore(url(path))
    await store.open()
    await store.close()
    sql(path, "UPDATE alembic_version SET version_num = '0999'")
    newer = SqlStore(url(path))
    with pytest.raises(Permanent, match="ledger_schema_newer"):
        await newer.open()
    await newer.close()


async def test_the_working_folder_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SqlStore("sqlite+aiosqlite:///ledger.db")
    await store.open()
    await store.close()
    assert ask(tmp_path / "ledger.db", "SELECT count(*) FROM usage") == [(0,)]
