"""One program kept alive: started, watched, restarted with a growing delay, stopped in bounds."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from infra.local import tether
from infra.local.plan import Program, exit_reason, failures_after, restart_delay
from infra.local.settings import ROOT
from shared.clock import monotonic

State = Literal["starting", "running", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Change:
    """Something happened to a program; `pid` is 0 while it does not run."""

    name: str
    state: State
    pid: int = 0
    detail: str = ""
    failures: int = 0


Report = Callable[[Change], None]
Prepare = Callable[[], Coroutine[None, None, None]]


class Child:
    """Keeps one program running until `stop`."""

    def __init__(
        self, program: Program, log: Path, report: Report, prepare: Prepare | None = None
    ) -> None:
        """`prepare` runs after every start; its error counts as a failure of the program."""
        self.program = program
        self.log = log
        self.prepared = asyncio.Event()
        self._report = report
        self._prepare = prepare
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._failures = 0

    async def run(self) -> None:
        """Start the program and restart it whenever it ends, until it is stopped."""
        name = self.program.name
        while not self._stopping.is_set():
            began = monotonic()
            reason = await self._once()
            self._process = None
            if self._stopping.is_set():
                break
            self._failures = failures_after(self._failures, monotonic() - began)
            delay = restart_delay(self._failures)
            detail = f"{reason}; again in {delay:g} s"
            self._report(Change(name, "failed", 0, detail, self._failures))
            await self._pause(delay)
        self._report(Change(name, "stopped"))

    async def _once(self) -> str:
        """One life of the program; the reason for its end."""
        try:
            process = await self._spawn()
        except OSError as error:
            return f"could not start: {error.strerror}"
        self._process = process
        if self._stopping.is_set():  # it was told to stop while it was being started
            _signal_group(process.pid, signal.SIGKILL)
        self._report(Change(self.program.name, "starting", process.pid))
        ended = asyncio.create_task(process.wait())
        if failure := await self._get_ready(process, ended):
            _signal_group(process.pid, signal.SIGKILL)
            await ended
            return failure
        return exit_reason(await ended)

    async def _get_ready(
        self, process: asyncio.subprocess.Process, ended: asyncio.Task[int]
    ) -> str:
        if self._prepare is not None:
            preparing = asyncio.create_task(self._prepare())
            both: set[asyncio.Task[None] | asyncio.Task[int]] = {preparing, ended}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not preparing.done():
                preparing.cancel()
                await asyncio.wait({preparing})
                return ""  # it ended first, which is the reason that counts
            if error := preparing.exception():
                return f"not usable: {error}"
        if not ended.done():
            self._report(Change(self.program.name, "running", process.pid))
            self.prepared.set()
        return ""

    async def _spawn(self) -> asyncio.subprocess.Process:
        """Tethered to this process, in a process group of its own: Ctrl-C reaches us alone."""
        command = (sys.executable, "-I", "-S", str(tether.__file__), str(os.getpid()))
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *command,
                *self.program.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=dict(self.program.environment),
                process_group=0,
            )

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    async def restart(self, grace: float) -> None:
        """Ask the program to end, and kill it after `grace` seconds; `run` starts it again."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        _signal_group(process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), grace)
            return
        _signal_group(process.pid, signal.SIGKILL)

    async def lose(self) -> None:
        """End the program as a crash would, and leave it down: `run` returns."""
        self._stopping.set()
        process = self._process
        if process is not None and process.returncode is None:
            _signal_group(process.pid, signal.SIGKILL)
            await process.wait()

    async def stop(self, grace: float) -> None:
        """Ask the program to end, and kill what is left of it after `grace` seconds."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        _signal_group(process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), grace)
        _signal_group(process.pid, signal.SIGKILL)
        await process.wait()


def _signal_group(pid: int, number: signal.Signals) -> None:
    """Signal a program and what it started; gone already is fine."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
