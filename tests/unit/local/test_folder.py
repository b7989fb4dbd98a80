"""The data folder's lock, its private files and its logs."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from infra.local import folder
from shared.errors import Permanent


def test_the_second_user_of_a_data_folder_is_refused(tmp_path: Path) -> None:
    with folder.locked(tmp_path):
        with (
            pytest.raises(Permanent, match=f"process {os.getpid()}") as caught,
            folder.locked(tmp_path),
        ):
            pass
        assert caught.value.code == "data_in_use"
    with folder.locked(tmp_path):
        pass


def test_private_files_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "nats.json"
    path.write_text("old")
    folder.write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_start_keeps_the_log_of_the_start_before(tmp_path: Path) -> None:
    folder.open_log(tmp_path, "tools").write_text("first")
    path = folder.open_log(tmp_path, "tools")
    assert path.read_text() == ""
    assert path.with_suffix(".log.1").read_text() == "first"


def test_a_long_log_is_moved_aside_under_its_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "LOG_LIMIT", 4)
    path = folder.open_log(tmp_path, "tools")
    with path.open("ab", buffering=0) as writer:
        writer.write(b"before")
        folder.shorten_log(path)
        writer.write(b"after")
    assert path.read_bytes() == b"after"
    assert path.with_suffix(".log.1").read_bytes() == b"before"


def test_the_last_lines_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("a\nb\nc\n")
    assert folder.last_lines(path, 2) == ["b", "c"]
