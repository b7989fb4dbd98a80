"""Asks a Prometheus every question of every dashboard: each must have an answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from infra.grafana.boards import BOARDS
from infra.prometheus.server import Prometheus
from shared.errors import Permanent

WINDOW = "1m"
"""In the place of what Grafana chooses for itself."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of a query. `quiet`: there are series, but nothing happened in that time."""

    board: str
    panel: str
    expr: str
    outcome: Literal["data", "quiet", "nothing", "error"]
    found: str = ""
    highest: float | None = None

    @property
    def good(self) -> bool:
        """Whether the panel would show something."""
        return self.outcome in ("data", "quiet")


def concrete(expr: str) -> str:
    """A query as Prometheus takes it."""
    return expr.replace("$__rate_interval", WINDOW)


async def findings(prometheus: Prometheus) -> list[Finding]:
    """For every query of every dashboard."""
    return [
        await _ask(prometheus, board.title, panel.title, concrete(query.expr))
        for board in BOARDS
        for panel, query in board.queries()
    ]


async def _ask(prometheus: Prometheus, board: str, panel: str, expr: str) -> Finding:
    try:
        series = await prometheus.query(expr)
    except Permanent as error:
        return Finding(board, panel, expr, "error", error.detail)
    if not series:
        return Finding(board, panel, expr, "nothing")
    values = [float(one["value"][1]) for one in series]
    real = [value for value in values if not math.isnan(value)]
    if not real:
        return Finding(board, panel, expr, "quiet", f"{len(values)} series without events")
    highest = max(real)
    told = f"{len(values)} series, highest {highest:.4g}"
    return Finding(board, panel, expr, "data", told, highest)


async def failing_rules(prometheus: Prometheus) -> list[str]:
    """Rules that could not be evaluated."""
    return [
        f"{rule['name']}: {rule.get('lastError') or rule['health']}"
        for rule in await prometheus.rules()
        if rule["health"] != "ok"
    ]


async def firing_alerts(prometheus: Prometheus) -> list[str]:
    """What the alerts say of the system: no fault of theirs."""
    return [
        f"{rule['name']}: {one['annotations'].get('summary', '')}"
        for rule in await prometheus.rules()
        for one in rule.get("alerts", ())
        if one["state"] == "firing"
    ]
