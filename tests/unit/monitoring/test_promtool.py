"""Prometheus' own judgement of the configuration and the rules, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from infra.grafana.boards import BOARDS
from infra.grafana.checking import concrete
from infra.prometheus.rules import FOLDER

ALERTS = Path(__file__).parent / "alerts.yml"
PROMTOOL = shutil.which("promtool")
pytestmark = pytest.mark.skipif(
    PROMTOOL is None, reason="no promtool on this machine (Debian: apt-get install prometheus)"
)


def promtool(*arguments: object) -> str:
    done = subprocess.run(
        [str(PROMTOOL), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_configuration_and_the_rules_are_right() -> None:
    assert "SUCCESS: 32 rules found" in promtool("check", "config", FOLDER / "prometheus.yml")


def test_alerts_fire_when_they_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", ALERTS)


def test_every_query_of_the_dashboards_is_promql(tmp_path: Path) -> None:
    rules = "".join(
        f"      - {{record: 'x:{n}', expr: {_quoted(concrete(query.expr))}}}\n"
        for n, (_, query) in enumerate(one for board in BOARDS for one in board.queries())
    )
    path = tmp_path / "queries.yml"
    path.write_text(f"groups:\n  - name: queries\n    rules:\n{rules}")
    assert "rules found" in promtool("check", "rules", path)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
