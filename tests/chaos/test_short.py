"""A short run of the suite: real processes are killed, and every invariant holds."""

from __future__ import annotations

import subprocess
import sys

import pytest

from infra.local.settings import ROOT

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]


def test_a_short_run_finds_nothing() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--short"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=230,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
