"""A real PostgreSQL for tests: Debian's binaries, its own data folder, a free port of loopback.

`initdb` refuses to be root, so as root everything runs as the first unprivileged user there is.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_USERS = ("postgres", "nobody")


def binaries() -> Path | None:
    """The newest installation's folder."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    return found[-1].parent if found else None


def _version(path: Path) -> float:
    return float(path.parent.parent.name)


def _unprivileged() -> list[str]:
    if os.geteuid() != 0:
        return []
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = next((name for name in _USERS if name in names), None)
    if user is None or shutil.which("runuser") is None:
        pytest.skip("PostgreSQL refuses to run as root, and there is no runuser and nobody")
    return ["runuser", "-u", user, "--"]


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The URL of a fresh server, `postgresql://...`; skips where there is no PostgreSQL."""
    folder = binaries()
    if folder is None:
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    prefix = _unprivileged()
    with tempfile.TemporaryDirectory(prefix="millrace-pg-") as place:
        if prefix:
            shutil.chown(place, user=prefix[2])
        data, port = Path(place) / "data", _free_port()
        _run([*prefix, folder / "initdb", "-D", data, "-U", "millrace", "-A", "trust", "-N"])
        control = [*prefix, folder / "pg_ctl", "-D", data, "-w"]
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {place} -c fsync=off"
        _run([*control, "-l", Path(place) / "log", "-o", options, "start"])
        try:
            yield f"postgresql://millrace@127.0.0.1:{port}/postgres"
        finally:
            _run([*control, "-m", "immediate", "stop"])


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _run(command: list[str | Path]) -> None:
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or done.stdout
