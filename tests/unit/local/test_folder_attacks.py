"""What an attacker leaves in a data folder before we come: links where we are about to write, and
a folder that is his own."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.local import broker, folder, scraping
from infra.nats import keys
from infra.private_file import write_private
from shared.errors import Permanent

VICTIM = "what must not be written\n"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of ours outside of the data folder, to which the attacker has no right."""
    path = tmp_path / "victim"
    path.write_text(VICTIM)
    path.chmod(0o640)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    return path


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def _log(data: Path) -> Path:
    return folder.open_log(data, "tools")


def _pids(data: Path) -> Path:
    folder.write_pids(data, {"tools": 1})
    return data / "pids.json"


def _identity(data: Path) -> Path:
    broker.identity_of(data)
    return data / "nats" / "identity.json"


def _configuration(data: Path) -> Path:
    broker.program(data, broker.identity_of(data), "always", {})
    return data / "nats" / "server.conf"


def _shortened(data: Path) -> Path:
    path = folder.open_log(data, "tools")
    with path.open("wb") as log:
        log.truncate(folder.LOG_LIMIT + 1)
    folder.shorten_log(path)
    return path.with_suffix(".log.1")


def _security(data: Path) -> Path:
    keys.write_security(data)
    return data / keys.SECURITY_FILE


def _nats(data: Path) -> Path:
    write_private(data / broker.CLIENT_FILE, b"{}")
    return data / broker.CLIENT_FILE


WRITES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "log": ("logs/tools.log", _log),
    "pids": ("pids.json", _pids),
    "pids-draft": ("pids.json.new", _pids),
    "identity-draft": ("nats/identity.json.new", _identity),
    "server": ("nats/server.conf", _configuration),
    "server-draft": ("nats/server.conf.new", _configuration),
    "old-log": ("logs/tools.log.1", _shortened),
    "users": ("security.conf", _security),
    "nats": ("nats.json", _nats),
    "nats-draft": ("nats.json.new", _nats),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_is_replaced_and_not_followed(
    data: Path, victim: Path, name: str, dangling: bool
) -> None:
    where, write = WRITES[name]
    target = victim.with_name("nothing-yet") if dangling else victim
    planted = data / where
    planted.parent.mkdir(exist_ok=True)
    planted.symlink_to(target)
    written = write(data)
    assert not victim.with_name("nothing-yet").exists()
    assert (victim.read_text(), mode_of(victim)) == (VICTIM, 0o640)
    assert stat.S_ISREG(written.lstat().st_mode)
    assert mode_of(written) == 0o600


def test_a_seed_is_never_written_through_a_link(data: Path, victim: Path) -> None:
    """One that leads to a file is read, and is no seed; one that leads nowhere is replaced."""
    planted = data / "users" / "tools.nk"
    planted.parent.mkdir()
    planted.symlink_to(victim.with_name("nothing-yet"))
    keys.ensure_user(data, "tools")
    assert not victim.with_name("nothing-yet").exists()
    assert (planted.is_symlink(), mode_of(planted)) == (False, 0o600)
    planted.unlink()
    planted.symlink_to(victim)
    with pytest.raises(Permanent) as refused:
        keys.write_security(data)
    assert refused.value.code == "invalid_credentials"
    assert VICTIM.strip() not in refused.value.detail
    assert victim.read_text() == VICTIM


def test_what_prometheus_reads_may_be_read_by_others(data: Path, victim: Path) -> None:
    path = data / scraping.TARGETS_FILE
    path.symlink_to(victim)
    data.joinpath(f"{scraping.TARGETS_FILE}.new").symlink_to(victim)
    scraping.write_targets(data, "127.0.0.1", [scraping.Target("tools", "tools", 9401)])
    assert (victim.read_text(), mode_of(path)) == (VICTIM, 0o644)


@pytest.mark.parametrize("dangling", [False, True])
def test_a_lock_that_is_a_link_is_refused(data: Path, victim: Path, dangling: bool) -> None:
    target = victim.with_name("nothing-yet") if dangling else victim
    (data / "lock").symlink_to(target)
    with pytest.raises(Permanent, match="is a link") as refused, folder.locked(data):
        pass
    assert (refused.value.code, refused.value.field) == ("data_not_private", "MILLRACE_DATA")
    assert not victim.with_name("nothing-yet").exists()
    assert victim.read_text() == VICTIM


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775, 0o722])
def test_a_folder_that_others_write_is_refused(data: Path, mode: int) -> None:
    data.chmod(mode)
    with pytest.raises(Permanent, match="chmod go-w") as refused, folder.locked(data):
        pass
    assert (refused.value.code, refused.value.field) == ("data_not_private", "MILLRACE_DATA")
    assert list(data.iterdir()) == []


@pytest.mark.parametrize(
    ("owner", "mode", "user", "objects"),
    [
        (1000, 0o40700, 1000, ""),
        (1000, 0o40755, 1000, ""),
        (0, 0o40755, 1000, ""),
        (0, 0o40700, 0, ""),
        (1001, 0o40700, 1000, "belongs to user 1001"),
        (1001, 0o40700, 0, "belongs to user 1001"),
        (0, 0o41777, 1000, "mode 1777"),
        (1000, 0o40770, 1000, "mode 770"),
    ],
)
def test_a_folder_is_ours_or_roots(owner: int, mode: int, user: int, objects: str) -> None:
    found = folder.not_private(owner, mode, user)
    assert objects in found
    assert bool(objects) == bool(found)


def test_a_file_is_no_folder(victim: Path) -> None:
    with pytest.raises(Permanent, match="no folder") as refused, folder.locked(victim):
        pass
    assert (refused.value.code, victim.read_text()) == ("data_not_private", VICTIM)


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o077])
def test_a_folder_of_our_own_is_seen_by_nobody(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with folder.locked(tmp_path / "new"):
            _log(tmp_path / "new")
            _pids(tmp_path / "new")
    finally:
        os.umask(before)
    modes = {path.name: mode_of(path) for path in (tmp_path / "new").rglob("*")}
    assert mode_of(tmp_path / "new") == 0o711
    assert modes == {"lock": 0o600, "pids.json": 0o600, "logs": 0o700, "tools.log": 0o600}
