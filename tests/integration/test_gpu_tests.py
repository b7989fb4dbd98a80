"""`make test-gpu` on a machine without a GPU, and on one that only looks as if it had one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.settings import ROOT, inherited_environment
from tests.contract.engines.tiny_model import build_tiny_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def run(path: str, *arguments: str, python_path: str = "") -> subprocess.CompletedProcess[str]:
    roots = os.pathsep.join(filter(None, (str(ROOT), python_path)))
    return subprocess.run(
        [sys.executable, "-m", "tests.gpu", *arguments],
        env=inherited_environment() | {"PATH": path, "PYTHONPATH": roots},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_gpu_nothing_is_tested_and_that_is_said(tmp_path: Path) -> None:
    found = run(str(tmp_path))
    assert found.returncode == 1
    for said in ("no GPU here", "no tensorrt_llm here", "no model", "nothing was tested"):
        assert said in found.stdout


def test_what_would_run_on_a_gpu_is_in_order(tmp_path: Path) -> None:
    """A sample, on the look-alike with a rank of its own; the rest is in the contract tests."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: none at all'\n")
    tool.chmod(0o755)
    model = build_tiny_model(tmp_path / "tiny")
    sample = "signatures or one_terminal_chunk or pieces_add_up"
    fakes = str(ROOT / "tests" / "fakes")
    found = run(
        str(tmp_path), "--model", str(model), "-q", "-k", sample, "-p", "no:cacheprovider",
        python_path=fakes,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert "9 passed" in found.stdout
