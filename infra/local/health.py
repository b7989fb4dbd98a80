"""Watches whether the server can still write, and restarts it where that is the cure.

A stream of nats-server 2.15 that met a full disk (or any other write error) answers nothing that
is published to it any more, also when there is space again: the error stays until a restart
(measured; ADR 0015). Its `/healthz` tells.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path

import httpx
import orjson

ROOM = 16 << 20
"""Bytes that must be free before a restart: a start on a full disk would meet the same error."""
EVERY = 2.0
_PATIENCE = 2.0
_AGAIN = 10.0


def write_error(status: int, body: bytes) -> str:
    """What a `/healthz` says about a store that cannot write; empty where it can."""
    if status == httpx.codes.OK:
        return ""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    error = str(found.get("error", "")) if isinstance(found, dict) else ""
    return error if "write error" in error else ""


async def watch(
    url: str,
    free: Callable[[], int],
    restart: Callable[[], Coroutine[None, None, None]],
    say: Callable[[str], None],
) -> None:
    """For ever: restart a server whose store is stuck, once there is room; tell why it waits."""
    told = ""
    async with httpx.AsyncClient(timeout=_PATIENCE, trust_env=False) as client:
        while True:
            await asyncio.sleep(EVERY)
            error = await _ask(client, url)
            if error and error != told:
                say(f"the broker cannot write: {error}")
            told = error
            if error and free() >= ROOM:
                say("the broker is restarted, because there is room again")
                await restart()
                await asyncio.sleep(_AGAIN)


async def _ask(client: httpx.AsyncClient, url: str) -> str:
    try:
        answer = await client.get(f"{url}/healthz")
    except httpx.HTTPError:
        return ""  # it does not run: the supervisor's business
    return write_error(answer.status_code, answer.content)


def free_bytes(folder: Path) -> int:
    """Space that is left where the store lies."""
    return shutil.disk_usage(folder).free
