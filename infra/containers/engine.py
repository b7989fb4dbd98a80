"""The container engine: whether it is there, and what Compose is told. It knows no services."""

from __future__ import annotations

import asyncio
import shutil
from asyncio.subprocess import DEVNULL
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.errors import Permanent

VARIABLES = "infra/docker"
"""Where the variables of a profile are, if it has any, as `<profile>.env`."""
WAIT = 1800
"""Seconds for everything to become healthy; the images are built, or pulled, before."""
_NONE = (
    "no docker was found. `make run` starts the same system without containers; for containers "
    "install Docker Engine with its Compose plugin (2.30 or newer), and call this again"
)
_NO_COMPOSE = (
    "docker is here without its Compose plugin: install it (Debian and Ubuntu: the package "
    "docker-compose-plugin of Docker's own repository), and call this again"
)
_NOT_RUNNING = (
    "docker is here, but its engine does not answer: start it (`systemctl start docker`), or see "
    "with `docker info` whether you may use it, and call this again"
)


async def docker() -> str:
    """Where docker is, once its engine and its Compose plugin answer.

    Raises:
        Permanent: `no_container_engine`, `no_compose`, `engine_away`; each says what to do.
    """
    found = shutil.which("docker")
    if found is None:
        raise Permanent("no_container_engine", _NONE)
    if await _quietly(found, "compose", "version"):
        raise Permanent("no_compose", _NO_COMPOSE)
    if await _quietly(found, "info"):
        raise Permanent("engine_away", _NOT_RUNNING)
    return found


def compose(found: str, root: Path, profiles: Sequence[str]) -> list[str]:
    """The beginning of every call; files of variables that are named replace the default one."""
    argv = [found, "compose", "--project-directory", str(root)]
    files = [path for name in profiles if (path := root / VARIABLES / f"{name}.env").exists()]
    if files and (own := root / ".env").exists():
        files.insert(0, own)
    argv += [word for path in files for word in ("--env-file", str(path))]
    return [*argv, *(word for name in profiles for word in ("--profile", name))]


def up(prefix: Sequence[str]) -> list[str]:
    """Build what is ours, start everything, come back when all of it is healthy."""
    return [*prefix, "up", "--build", "--detach", "--wait", "--wait-timeout", str(WAIT)]


def down(prefix: Sequence[str], *, volumes: bool) -> list[str]:
    """Stop and remove; the data goes only where that was asked for."""
    return [*prefix, "down", "--remove-orphans", *(("--volumes",) if volumes else ())]


async def run(argv: Sequence[str], root: Path, environment: Mapping[str, str]) -> int:
    """Run to its end on this terminal; the exit status."""
    process = await asyncio.create_subprocess_exec(*argv, cwd=root, env=dict(environment))
    return await process.wait()


async def _quietly(*argv: str) -> int:
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
    )
    return await process.wait()
