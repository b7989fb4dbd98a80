"""The data folder: who may use it, and the small files that others read there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import orjson

from infra.private_file import write_private as write_private
from shared.errors import Permanent

LOG_LIMIT = 16 << 20
"""A log above this size (bytes) is moved aside while its writer goes on writing."""


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Hold the data folder; the kernel lets go of it however this process ends.

    Raises:
        Permanent: `data_in_use` while another system runs on it.
    """
    data.mkdir(parents=True, exist_ok=True)
    with (data / "lock").open("a+") as file:
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


def write_pids(data: Path, pids: Mapping[str, int]) -> None:
    """`pids.json`: program name to process id, of those that run now."""
    write_private(data / "pids.json", orjson.dumps(dict(pids)))


def open_log(data: Path, name: str) -> Path:
    """The log file of a program, empty; the one of the previous start is kept beside it."""
    path = data / "logs" / f"{name}.log"
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        path.replace(path.with_suffix(".log.1"))
    path.touch()
    return path


def shorten_log(path: Path) -> None:
    """Move a log's content aside when it has grown too long.

    Its writer has it open for appending, so it goes on at the start of the emptied file.
    """
    if path.stat().st_size > LOG_LIMIT:
        path.with_suffix(".log.1").write_bytes(path.read_bytes())
        os.truncate(path, 0)


def last_lines(path: Path, count: int) -> list[str]:
    """The end of a log, for a person who must find out why a program does not start."""
    return path.read_text(errors="replace")[-8_000:].splitlines()[-count:]
