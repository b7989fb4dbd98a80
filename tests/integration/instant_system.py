"""A whole system behind a real ingress, whose model answers at once what it is told to."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infra.local.settings import ROOT, inherited_environment
from tests.integration.ingress_system import Ingress, whole_system

MODELS = """
models: {instant: {engine: openvino, path: ".", context: 16384, concurrency: 256}}
routes: {default: [instant]}
"""
AGENT = "tools: [calculator]\nlimits: {max_steps: 20}\n"


@asynccontextmanager
async def instant_system(
    data: Path, worker: str = "tests.bench.worker", models: str = MODELS
) -> AsyncIterator[Ingress]:
    """All services, ready."""
    (data / "models.yaml").write_text(models)
    (data / "agents").mkdir()
    (data / "agents" / "assistant.yaml").write_text(AGENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MILLRACE_MODELS", str(data / "models.yaml"))
        patch.setenv("MILLRACE_AGENTS", str(data / "agents"))
        services = ("sessions", "router", "tools", "ledger", "retrieval")
        async with whole_system(data, services) as front:
            own = {"MILLRACE_DATA": str(data), "MILLRACE_MODEL": "instant", "PYTHONPATH": str(ROOT)}
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", worker, env=inherited_environment() | own, cwd=ROOT
            )
            try:
                await front.ready()
                yield front
            finally:
                process.terminate()
                await process.wait()
