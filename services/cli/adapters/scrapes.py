"""Asks every process of a local system for its metrics, and whether it is ready."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import orjson

from services.cli.core.checks import Check
from shared.metrics.exporter import TARGETS_FILE

_PATIENCE = 3.0
_FIX = "see the process's log in the data folder; MILLRACE_METRICS_PORT=0 takes free ports"


async def metrics_check(data: Path) -> Check:
    """One finding about all of them."""
    path = data / TARGETS_FILE
    try:
        rows = orjson.loads(await asyncio.to_thread(path.read_bytes))
        places = {row["labels"]["instance"]: row["targets"][0] for row in rows}
    except (OSError, orjson.JSONDecodeError, KeyError, IndexError, TypeError):
        fix = "`make run` writes it, unless MILLRACE_METRICS_PORT is off"
        return Check("metrics", "warning", f"{path} names no process", fix)
    async with httpx.AsyncClient(timeout=_PATIENCE, trust_env=False) as client:
        found = await asyncio.gather(*(_fault(client, at) for at in places.values()))
    faults = [f"{name}: {text}" for name, text in zip(places, found, strict=True) if text]
    if faults:
        return Check("metrics", "failed", "; ".join(faults), _FIX)
    return Check("metrics", "ok", f"all {len(places)} processes answer")


async def _fault(client: httpx.AsyncClient, at: str) -> str:
    """What is wrong with a process, nothing if it is well."""
    try:
        metrics = await client.get(f"http://{at}/metrics")
        ready = await client.get(f"http://{at}/readyz")
    except httpx.HTTPError as error:
        return f"{at} does not answer ({type(error).__name__})"
    if not metrics.is_success:
        return f"{at}/metrics: {metrics.status_code}"
    return "" if ready.is_success else f"not ready: {ready.text[:120]}"
