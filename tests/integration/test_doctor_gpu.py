"""`millrace doctor --gpu` as a process: the library is looked at in an interpreter of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import orjson
import pytest

from infra.local.settings import ROOT, inherited_environment

pytestmark = pytest.mark.integration
H100 = "NVIDIA H100 80GB HBM3, 590.48.01, 81559, 81000, 9.0"


async def doctor(path: str, *python_path: Path) -> tuple[int, dict[str, tuple[str, str]]]:
    roots = os.pathsep.join(map(str, (ROOT, *python_path)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli", "doctor", "--gpu", "--json"),
        env=inherited_environment() | {"PATH": path, "PYTHONPATH": roots},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    checks = orjson.loads(out)["checks"]
    return process.returncode or 0, {one["name"]: (one["outcome"], one["found"]) for one in checks}


async def test_without_gpu_and_library_both_are_said(tmp_path: Path) -> None:
    code, found = await doctor(str(tmp_path))
    assert code == 1
    assert found["gpu"] == ("failed", "no GPU here: there is no nvidia-smi")
    assert found["library"][0] == "failed"
    assert "tensorrt_llm cannot be imported" in found["library"][1]


async def test_with_both_it_is_content(tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '{H100}'\n")
    tool.chmod(0o755)
    code, found = await doctor(str(tmp_path), ROOT / "tests" / "fakes")
    assert (code, found["gpu 0"][0], found["library"][0]) == (0, "ok", "ok")
