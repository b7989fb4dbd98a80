"""What `doctor --gpu` looks at: nvidia-smi, and the worker's library in a process of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from services.cli.core.checks import Check
from services.cli.core.gpu import QUERY, Installed, gpu_checks, library_check, no_gpu

_SMI = ("nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits")
_LIBRARY = (sys.executable, "-m", "services.inference.adapters.trtllm.check")
_PATIENCE = 300.0
"""Seconds: the library's import alone can take a minute on a cold disk."""


class GpuProbes:
    """Probes of this machine; `root` is where the services are."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self._root, self._environment = root, environment

    async def look(self) -> Sequence[Check]:
        """GPUs first; the library is looked at without them, too."""
        return (*await self._gpus(), await self._library())

    async def _gpus(self) -> Sequence[Check]:
        try:
            code, said = await self._run(_SMI)
        except FileNotFoundError:
            return (no_gpu("there is no nvidia-smi"),)
        except TimeoutError:
            return (no_gpu("nvidia-smi does not answer"),)
        if code != 0:
            return (no_gpu(f"nvidia-smi fails: {said.strip().splitlines()[:1]}"),)
        return gpu_checks(said)

    async def _library(self) -> Check:
        try:
            _, said = await self._run(_LIBRARY)
            lines = said.strip().splitlines() or [""]
            found = msgspec.json.decode(lines[-1], type=Installed)
        except (TimeoutError, msgspec.DecodeError):
            found = Installed(code="engine_missing", error="importing tensorrt_llm gave no answer")
        return library_check(found)

    async def _run(self, command: Sequence[str]) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._root,
            env=self._environment,
        )
        try:
            async with asyncio.timeout(_PATIENCE):
                said, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        return process.returncode or 0, said.decode(errors="replace")
