"""Runs the programs of `infra` for a command: the supervisor in its place, its broker, its keys."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

import orjson

from services.cli.core.place import Place
from services.cli.ports import BusKey
from shared.errors import Permanent, Transient

_READY_WITHIN, _EVERY = 60.0, 0.1
_BROKER_FILE = "nats.json"


class Supervisor:
    """Starts the supervisor with an environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def __call__(self, arguments: Sequence[str]) -> NoReturn:
        """Replace this process: signals and the exit status then are the supervisor's own."""
        command = [sys.executable, "-m", "infra.local", *arguments]
        os.execve(sys.executable, command, self._environment)  # noqa: S606  # our own program

    @asynccontextmanager
    async def broker(self, data: Path) -> AsyncIterator[None]:
        """The broker of a data folder alone, for as long as it is needed.

        Raises:
            Transient: `no_broker`, with what it said.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "infra.local", "--data", str(data), "--only-broker", "--quiet",
            env=dict(self._environment), stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            await _ready(process, data / _BROKER_FILE)
            yield
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.communicate()

    async def bus_key(self, place: Place, tenant: str, folder: Path | None) -> BusKey:
        """Of the local system, or of the folder that `python -m infra.nats write` made.

        Raises:
            Permanent: what that program says.
        """
        environment = dict(self._environment)
        if place.chosen:  # an empty address also goes before one that a file names
            own = {"MILLRACE_DATA": str(place.data.absolute()), "MILLRACE_NATS_URL": ""}
            environment |= own
        where = ["--folder", str(folder)] if folder is not None else []
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infra.nats", "tenant", "--json", *where, "--", tenant),
            env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, said = await process.communicate()
        if process.returncode:
            raise _refusal(said.decode(errors="replace"))
        found = orjson.loads(out)
        return BusKey(Path(found["file"]), found["known"], found["url"])


def _refusal(said: str) -> Permanent:
    """The error behind `infra.nats: code: detail`; a traceback is one without a code."""
    _, _, told = said.strip().rpartition("\n")[-1].partition("infra.nats: ")
    code, _, detail = told.partition(": ")
    return Permanent(code or "no_key", detail or said.strip()[-500:] or "infra.nats said nothing")


async def _ready(process: asyncio.subprocess.Process, file: Path) -> None:
    """Wait for the file that tells clients where the broker is."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _READY_WITHIN
    while process.returncode is None and loop.time() < end:
        if os.access(file, os.R_OK):
            return
        await asyncio.sleep(_EVERY)
    said = await process.stderr.read() if process.stderr and process.returncode else b""
    raise Transient("no_broker", f"the broker did not start: {said.decode().strip()}")
