"""Asks the ingress whether the system is ready and, if not, what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import orjson

PROGRAM_OF = {"worker": "inference"}
"""Parts of the system, as `/readyz` calls them, that have another name than their program."""
_EVERY, _PATIENCE = 0.2, 5.0


def missing_in(status: int, body: bytes, names: tuple[str, ...]) -> tuple[str, ...]:
    """The programs that are not ready, from the answer of `/readyz`; empty: all are."""
    if status == httpx.codes.OK:
        return ()
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return names
    missing = found.get("missing") if isinstance(found, dict) else None
    if not isinstance(missing, list):
        return names
    programs = {PROGRAM_OF.get(part, part) for part in missing}
    return tuple(name for name in names if name in programs) or names


async def wait_until_ready(
    url: str, names: tuple[str, ...], tell: Callable[[tuple[str, ...]], None]
) -> None:
    """Ask again and again until everything is there, telling what is missing after each answer."""
    async with httpx.AsyncClient(timeout=_PATIENCE, trust_env=False) as client:
        while missing := await _ask(client, url, names):
            tell(missing)
            await asyncio.sleep(_EVERY)
        tell(())


async def _ask(client: httpx.AsyncClient, url: str, names: tuple[str, ...]) -> tuple[str, ...]:
    try:
        answer = await client.get(f"{url}/readyz")
    except httpx.HTTPError:
        return names
    return missing_in(answer.status_code, answer.content, names)
