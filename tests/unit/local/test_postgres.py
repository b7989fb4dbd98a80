"""The ledger's database on this machine: which one, as whom, and where it listens."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.local import postgres
from infra.local.plan import stop_stages
from infra.local.postgres import Postgres
from services.ledger.settings import LedgerSettings
from shared.errors import Permanent


def install(root: Path, *versions: str) -> Path:
    for version in versions:
        (root / version / "bin").mkdir(parents=True)
        (root / version / "bin" / "initdb").touch()
    return root


def test_the_newest_installation_is_taken(tmp_path: Path) -> None:
    root = install(tmp_path, "9.6", "15", "14")
    assert postgres.newest(root) == root / "15" / "bin"


def test_where_there_is_none_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Permanent) as caught:
        postgres.newest(tmp_path)
    assert caught.value.code == "no_postgresql"
    assert "apt-get install postgresql" in caught.value.detail
    assert "--sqlite" in caught.value.detail


def test_it_listens_on_its_own_folder_and_on_no_port() -> None:
    found = Postgres(Path("/pg/bin"), Path("/d/postgres"))
    argv = found.program({}).argv
    assert argv[argv.index("-k") + 1] == "/d/postgres"
    assert argv[-1] == "listen_addresses="
    assert found.url == "postgresql://millrace@/postgres?host=/d/postgres"


def test_the_ledger_reads_its_address() -> None:
    url = LedgerSettings(database_url=Postgres(Path("/pg"), Path("/d/postgres")).url).url()
    assert url == "postgresql+asyncpg://millrace@/postgres?host=/d/postgres"


def test_it_stops_with_the_brokers() -> None:
    program = Postgres(Path("/pg/bin"), Path("/d")).program({})
    assert stop_stages((program,)) == [["postgres"]]
    assert program.stage == 2


def test_only_root_needs_somebody_else() -> None:
    assert postgres.unprivileged(1000, ["root"]) == ()


def test_root_without_an_unprivileged_user_is_told() -> None:
    with pytest.raises(Permanent, match="--sqlite") as caught:
        postgres.unprivileged(0, ["root"])
    assert caught.value.code == "no_unprivileged_user"


def test_a_folder_too_deep_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Permanent) as caught:
        postgres.prepared(tmp_path / ("x" * 100))
    assert caught.value.code == "data_path_too_long"
