"""The data folder: who may use it, and the small files that others read there."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import orjson

from infra.private_file import write_private as write_private
from shared.errors import Permanent

LOG_LIMIT = 16 << 20
"""A log above this size (bytes) is moved aside while its writer goes on writing."""
_PASSED = 0o711
"""A data folder that we make: others may go through it to what they may read, and see nothing."""
_WRITABLE = stat.S_IWGRP | stat.S_IWOTH
_NO_LINK = os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Hold the data folder; the kernel lets go of it however this process ends.

    Raises:
        Permanent: `data_in_use` while another system runs on it; `data_not_private` where
            somebody else may change what is in it, who could then have us write anywhere.
    """
    _make(data)
    found = data.stat()
    if objection := not_private(found.st_uid, found.st_mode, os.geteuid()):
        raise Permanent("data_not_private", f"{data} {objection}", field="MILLRACE_DATA")
    with _lock_file(data / "lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise Permanent(
                "data_in_use",
                f"a system runs on {data} already (process {file.read().strip() or 'unknown'}); "
                "stop it, or name another folder in MILLRACE_DATA",
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _make(data: Path) -> None:
    try:
        data.mkdir(parents=True)
    except FileExistsError:
        if not data.is_dir():
            detail = f"{data} is no folder: name one in MILLRACE_DATA"
            raise Permanent("data_not_private", detail, field="MILLRACE_DATA") from None
    else:
        data.chmod(_PASSED)


def not_private(owner: int, mode: int, user: int) -> str:
    """Why a data folder is not our own; empty where it is. Root may have made it for us."""
    if owner not in (user, 0):
        return (
            f"belongs to user {owner}, and this is user {user}: "
            "name a folder of your own in MILLRACE_DATA"
        )
    if stat.S_IMODE(mode) & _WRITABLE:
        return (
            f"may be written by others (mode {stat.S_IMODE(mode):o}): look at what is in it, "
            "then take that away with `chmod go-w`"
        )
    return ""


def _lock_file(path: Path) -> TextIO:
    try:
        return os.fdopen(
            os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _NO_LINK, 0o600), "a+"
        )
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        detail = f"{path} is a link, and it is not ours: remove it"
        raise Permanent("data_not_private", detail, field="MILLRACE_DATA") from error


def write_pids(data: Path, pids: Mapping[str, int]) -> None:
    """`pids.json`: program name to process id, of those that run now."""
    write_private(data / "pids.json", orjson.dumps(dict(pids)))


def open_log(data: Path, name: str) -> Path:
    """The log file of a program, empty; the one of the previous start is kept beside it."""
    path = data / "logs" / f"{name}.log"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    if path.exists():
        path.replace(path.with_suffix(".log.1"))
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o600))
    return path


def shorten_log(path: Path) -> None:
    """Move a log's content aside when it has grown too long.

    Its writer has it open for appending, so it goes on at the start of the emptied file.
    """
    if path.stat().st_size > LOG_LIMIT:
        write_private(path.with_suffix(".log.1"), path.read_bytes())
        os.truncate(path, 0)


def last_lines(path: Path, count: int) -> list[str]:
    """The end of a log, for a person who must find out why a program does not start."""
    return path.read_text(errors="replace")[-8_000:].splitlines()[-count:]
