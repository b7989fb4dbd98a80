"""From a short description of a dashboard to Grafana's JSON. Pure; knows no metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

WIDTH = 24
"""Columns of Grafana's grid."""
SOURCE = {"type": "prometheus", "uid": "millrace-prometheus"}
_SCHEMA = 39
_HEIGHTS = {"stat": 4, "timeseries": 8, "bargauge": 8, "table": 8}
Shape = Literal["timeseries", "stat", "bargauge", "table"]


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and what its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `bad` is the value from which a single number is shown in red."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    help: str = ""
    shape: Shape = "timeseries"
    width: int = 8
    stacked: bool = False
    bad: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading, from left to right and on into the next line."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard; `uid` names its file and its address."""

    uid: str
    title: str
    help: str
    rows: tuple[Row, ...]

    def queries(self) -> Iterator[tuple[Panel, Query]]:
        """Every query with the panel that shows it."""
        for row in self.rows:
            for panel in row.panels:
                for query in panel.queries:
                    yield panel, query


def built(board: Board, others: Mapping[str, str]) -> dict[str, Any]:
    """Grafana's JSON; `others` are uid -> title of the dashboards to link to."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.help,
        "tags": ["millrace"],
        "schemaVersion": _SCHEMA,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": []},
        "annotations": {"list": []},
        "links": [
            {"type": "link", "title": title, "url": f"/d/{uid}", "keepTime": True}
            for uid, title in others.items()
            if uid != board.uid
        ],
        "panels": list(_placed(board.rows)),
    }


def _placed(rows: tuple[Row, ...]) -> Iterator[dict[str, Any]]:
    y, number_ = 0, 1
    for row in rows:
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        yield {"id": number_, "type": "row", "title": row.title, "gridPos": place, "panels": []}
        y, x, tallest, number_ = y + 1, 0, 0, number_ + 1
        for panel in row.panels:
            height = _HEIGHTS[panel.shape]
            if x + panel.width > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            place = {"x": x, "y": y, "w": panel.width, "h": height}
            yield {"id": number_, "gridPos": place, **_panel(panel)}
            x, tallest, number_ = x + panel.width, max(tallest, height), number_ + 1
        y += tallest


def _panel(panel: Panel) -> dict[str, Any]:
    instant = panel.shape != "timeseries"
    return {
        "type": panel.shape,
        "title": panel.title,
        "description": panel.help,
        "datasource": SOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + n),
                "datasource": SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "format": "table" if panel.shape == "table" else "time_series",
                "instant": instant,
                "range": not instant,
            }
            for n, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel.shape),
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.bad is not None:
        steps.append({"color": "red", "value": panel.bad})
    found: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.shape == "timeseries":
        found["custom"] = {
            "fillOpacity": 30 if panel.stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none"},
        }
    return found


def _options(shape: Shape) -> dict[str, Any]:
    if shape == "timeseries":
        legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
        return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    if shape == "table":
        return {"showHeader": True}
    reduced = {"calcs": ["lastNotNull"], "values": False}
    return {"reduceOptions": reduced, "colorMode": "value", "orientation": "auto"}
