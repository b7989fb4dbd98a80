"""The running system: found, or started for the time of the demo."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from infra.local.folder import locked
from infra.local.plan import SERVICES
from infra.local.readiness import wait_until_ready
from infra.local.settings import ROOT, LocalSettings
from shared.errors import Permanent, Transient

_READY_WITHIN = 180.0


def is_running(settings: LocalSettings) -> bool:
    """Whether a system holds the data folder, or another broker was named."""
    if settings.nats_url:
        return True
    try:
        with locked(settings.data.absolute()):
            return False
    except Permanent:
        return True


@asynccontextmanager
async def system(settings: LocalSettings) -> AsyncIterator[str]:
    """The HTTP address of a ready system; one that was started here is stopped at the end.

    Raises:
        Transient: `not_ready`.
    """
    url = f"http://{settings.http_host}:{settings.http_port}"
    data = settings.data.absolute()
    if is_running(settings):
        await _ready(url, data, None)
        yield url
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra.local", "--quiet", cwd=ROOT, process_group=0
    )
    try:
        await _ready(url, data, process)
        yield url
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def _ready(url: str, data: Path, process: asyncio.subprocess.Process | None) -> None:
    waiting = asyncio.create_task(wait_until_ready(url, SERVICES, lambda missing: None))
    tasks: set[asyncio.Task[None] | asyncio.Task[int]] = {waiting}
    if process is not None:
        tasks.add(asyncio.create_task(process.wait()))
    await asyncio.wait(tasks, timeout=_READY_WITHIN, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task is not waiting or not waiting.done():
            task.cancel()
    if not waiting.done() or waiting.cancelled():
        raise Transient("not_ready", f"the system at {url} is not ready; see {data}/logs")
    waiting.result()
