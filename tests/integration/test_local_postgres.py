"""The database of a local cluster: made once, on a socket of its own, under the supervisor."""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from infra.local import postgres
from infra.local.settings import inherited_environment
from infra.local.supervisor import Supervisor
from shared.errors import Permanent

pytestmark = pytest.mark.integration


@pytest.fixture
def data() -> Iterator[Path]:
    """A folder that other users may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="millrace-pg-") as place:
        Path(place).chmod(0o755)
        yield Path(place)


async def test_it_answers_in_its_own_folder_keeps_what_it_has_and_is_ended(data: Path) -> None:
    try:
        found = postgres.prepared(data)
    except Permanent as absent:
        pytest.skip(absent.detail)
    assert stat.S_IMODE(found.folder.stat().st_mode) == 0o700
    await one_life(data, found, "create table kept (n int)")
    await one_life(data, postgres.prepared(data), "insert into kept values (1)")
    assert not (found.data / "postmaster.pid").exists()


async def one_life(data: Path, found: postgres.Postgres, statement: str) -> None:
    supervisor = Supervisor(data, lambda _change: None)
    try:
        program = found.program(inherited_environment())
        await supervisor.start(program, found.preparation()).prepared.wait()
        connection = await asyncpg.connect(found.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()
    finally:
        await supervisor.stop()
