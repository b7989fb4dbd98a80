"""A PostgreSQL of this machine's packages, for the ledger of a local cluster.

It listens on a socket in its own folder and on no port, so that whoever may enter the folder may
use it, and no password is needed. PostgreSQL refuses to run as root: then it runs as the first
unprivileged user there is, and keeps its tie to the supervisor through that change.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.local.child import Prepare
from infra.local.plan import Program
from shared.errors import Permanent, Transient

NAME = "postgres"
INSTALLED = Path("/usr/lib/postgresql")
_USERS = ("postgres", "nobody")
_ROLE, _DATABASE = "millrace", "postgres"
_LONGEST_SOCKET = 107
"""Bytes of a socket's path (`sun_path` of unix(7), without its end)."""
_SOCKET_FILE = ".s.PGSQL.5432"
_READY_WITHIN = 60.0
_AGAIN = 0.2


@dataclass(frozen=True, slots=True)
class Postgres:
    """A database of its own: its binaries, its folder, and the command that gives up root."""

    binaries: Path
    folder: Path
    prefix: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """What `MILLRACE_DATABASE_URL` takes."""
        return f"postgresql://{_ROLE}@/{_DATABASE}?host={self.folder}"

    @property
    def data(self) -> Path:
        """Where the database's own files are."""
        return self.folder / "data"

    def program(self, environment: Mapping[str, str]) -> Program:
        """The server in the foreground; it stops after the services, with the brokers."""
        options = ("-D", str(self.data), "-k", str(self.folder), "-c", "listen_addresses=")
        argv = (*self.prefix, str(self.binaries / "postgres"), *options)
        return Program(NAME, argv, dict(environment), stage=2)

    def preparation(self) -> Prepare:
        """Wait, after each start, until it answers."""

        async def prepare() -> None:
            ready = (str(self.binaries / "pg_isready"), "-q", "-h", str(self.folder))
            async with asyncio.timeout(_READY_WITHIN):
                while True:
                    process = await asyncio.create_subprocess_exec(*ready)
                    if await process.wait() == 0:
                        return
                    await asyncio.sleep(_AGAIN)

        return prepare


def newest(installed: Path = INSTALLED) -> Path:
    """The binaries of the newest installation.

    Raises:
        Permanent: `no_postgresql`.
    """
    found = [one.parent for one in installed.glob("*/bin/initdb")]
    if not found:
        raise Permanent(
            "no_postgresql",
            "there is no PostgreSQL on this machine: `apt-get install postgresql` installs it, "
            "or go without it: ARGS=--sqlite",
        )
    return max(found, key=lambda folder: float(folder.parent.name))


def unprivileged(uid: int, users: Sequence[str]) -> tuple[str, ...]:
    """The command in front of what must not be root; empty where we are not root ourselves.

    The kernel forgets the tie to a parent when a process changes its user, unless it is kept.

    Raises:
        Permanent: `no_unprivileged_user`.
    """
    if uid != 0:
        return ()
    user = next((name for name in _USERS if name in users), None)
    if user is None or shutil.which("setpriv") is None:
        raise Permanent(
            "no_unprivileged_user",
            "PostgreSQL refuses to run as root, and here is no setpriv or no user "
            f"{' or '.join(_USERS)}: run this as another user, or with ARGS=--sqlite",
        )
    group = str(pwd.getpwnam(user).pw_gid)
    return (
        *("setpriv", "--reuid", user, "--regid", group, "--init-groups"),
        *("--pdeathsig", "keep", "--"),
    )


def prepared(data: Path) -> Postgres:
    """The database of a data folder, made at the first time.

    Raises:
        Permanent: `no_postgresql`, `no_unprivileged_user`, `data_path_too_long`.
        Transient: `database_not_made`.
    """
    folder = data.absolute() / NAME
    if len(os.fsencode(folder / _SOCKET_FILE)) > _LONGEST_SOCKET:
        raise Permanent(
            "data_path_too_long",
            f"a socket of PostgreSQL cannot lie as deep as {folder}: name a shorter folder with "
            "ARGS='--data FOLDER'",
        )
    prefix = unprivileged(os.geteuid(), [one.pw_name for one in pwd.getpwall()])
    found = Postgres(newest(), folder, prefix)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if prefix:
        shutil.chown(folder, user=prefix[2])
    if not (found.data / "PG_VERSION").exists():
        _make(found)
    return found


def _make(found: Postgres) -> None:
    options = ("-U", _ROLE, "-A", "trust", "-E", "UTF8", "--no-locale")
    command = (*found.prefix, str(found.binaries / "initdb"), "-D", str(found.data), *options)
    done = subprocess.run(  # noqa: S603  # the newest installation's own program
        command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        shutil.rmtree(found.data, ignore_errors=True)
        said = " ".join(done.stderr.split())[-300:]
        raise Transient("database_not_made", f"initdb could not make {found.data}: {said}")
