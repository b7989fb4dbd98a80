"""All programs together: started, their ids written down, stopped stage by stage."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from infra.local.child import Change, Child, Prepare, Report
from infra.local.folder import open_log, shorten_log, write_pids
from infra.local.plan import Program, stop_stages

GRACE = 8.0
"""Seconds that a program has to stop before it is killed."""
_LOG_CHECK = 30.0


class Supervisor:
    """Owns the children. `report` hears of every change."""

    def __init__(self, data: Path, report: Report, grace: float = GRACE) -> None:
        self._data = data
        self._report = report
        self._grace = grace
        self._children: dict[str, Child] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._pids: dict[str, int] = {}

    def start(self, program: Program, prepare: Prepare | None = None) -> Child:
        """Keep this program running from now on."""
        log = open_log(self._data, program.name)
        child = Child(program, log, self._on_change, prepare)
        self._children[program.name] = child
        self._tasks[program.name] = asyncio.create_task(child.run(), name=program.name)
        return child

    async def lose(self, name: str) -> None:
        """Kill a program and leave it down, until it is started again."""
        await self._children[name].lose()
        await self._tasks[name]

    def _on_change(self, change: Change) -> None:
        if change.pid:
            self._pids[change.name] = change.pid
        else:
            self._pids.pop(change.name, None)
        write_pids(self._data, self._pids)
        self._report(change)

    async def watch(self) -> None:
        """Wait for ever, keeping the logs short; an error in a child's own code surfaces here."""
        while True:
            done, _ = await asyncio.wait(self._tasks.values(), timeout=_LOG_CHECK)
            for task in done:
                task.result()
            if done and len(done) == len(self._tasks):
                return
            for child in self._children.values():
                shorten_log(child.log)

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """Stop everything, stage by stage, each within the grace period; `hurry` ends it now."""
        for names in stop_stages(tuple(c.program for c in self._children.values())):
            await self._stop_stage(names, hurry)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        (self._data / "pids.json").unlink(missing_ok=True)

    async def _stop_stage(self, names: Iterable[str], hurry: asyncio.Event | None) -> None:
        children = [self._children[name] for name in names]
        grace = 0.0 if hurry is not None and hurry.is_set() else self._grace
        stopping = asyncio.create_task(_stop_all(children, grace))
        if hurry is not None:
            hurried = asyncio.create_task(_stop_all_when(hurry, children))
            await asyncio.wait({stopping, hurried}, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
        await stopping


async def _stop_all(children: Iterable[Child], grace: float) -> None:
    await asyncio.gather(*(child.stop(grace) for child in children))


async def _stop_all_when(hurry: asyncio.Event, children: Iterable[Child]) -> None:
    await hurry.wait()
    await _stop_all(children, 0.0)
