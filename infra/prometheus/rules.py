"""The rules as they stand in their files, and every metric that they and dashboards may use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from infra.prometheus import promql
from shared.metrics.catalogue import ALL

FOLDER = Path(__file__).resolve().parent
FILES = ("rules.yml", "alerts.yml")
TARGET = frozenset({"job", "instance", "service"})
"""Labels that every target has."""
_PYTHON = (
    *("up", "ALERTS", "process_cpu_seconds_total", "process_resident_memory_bytes"),
    *("process_open_fds", "process_start_time_seconds"),
)
_OF_ALERTS = frozenset({"alertname", "alertstate", "severity"})


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: `name` is the metric that it records, or the alert."""

    name: str
    expr: str
    alert: bool = False
    severity: str = ""
    texts: tuple[str, ...] = ()


def read_rules() -> list[Rule]:
    """All rules of all files."""
    found = []
    for file in FILES:
        for group in yaml.safe_load((FOLDER / file).read_text())["groups"]:
            for row in group["rules"]:
                texts = tuple(row.get("annotations", {}).values())
                severity = row.get("labels", {}).get("severity", "")
                name = row.get("alert") or row["record"]
                found.append(Rule(name, row["expr"], "alert" in row, severity, texts))
    return found


def known_metrics() -> dict[str, frozenset[str]]:
    """What can be asked for: our own, what every process and Prometheus have, what is recorded."""
    known = dict.fromkeys(_PYTHON, TARGET)
    known["ALERTS"] = TARGET | _OF_ALERTS
    for metric in ALL:
        for name in metric.series:
            extra = {"le"} if name.endswith("_bucket") and metric.kind == "histogram" else set()
            known[name] = TARGET | set(metric.labels) | extra
    for rule in read_rules():
        if not rule.alert:
            known[rule.name] = promql.read(rule.expr).groups - {"le"}
    return known
