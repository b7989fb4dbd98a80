"""Dashboards and rules ask for what is exported, and the files that are made are current."""

from __future__ import annotations

import itertools
import json

import pytest

from infra.grafana.__main__ import FOLDER, files
from infra.grafana.boards import BOARDS
from infra.grafana.build import WIDTH, Board, Panel, Query, Row, built
from infra.prometheus import promql, reference
from infra.prometheus.rules import Rule, known_metrics, read_rules
from shared.metrics.catalogue import ALL

RULES = read_rules()
KNOWN = known_metrics()
FILES = files()
RUNBOOKS = FOLDER.parents[1] / "runbooks"
ALERTS = [rule for rule in RULES if rule.alert]


def _queries() -> list[tuple[str, str]]:
    return [
        (f"{board.uid}/{panel.title}", query.expr)
        for board in BOARDS
        for panel, query in board.queries()
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_made_is_current(path) -> None:
    assert path.read_bytes() == FILES[path], "make it anew: python -m infra.grafana write"


def test_there_is_no_file_of_a_dashboard_that_is_gone() -> None:
    assert {path for path in FOLDER.iterdir()} == set(FILES) - {reference.README}


def test_every_query_of_every_dashboard_asks_for_what_is_exported() -> None:
    assert [(at, fault) for at, expr in _queries() for fault in promql.unknown(expr, KNOWN)] == []


def test_every_legend_is_of_labels_that_its_query_leaves() -> None:
    for board in BOARDS:
        for panel, query in board.queries():
            use = promql.read(query.expr)
            left = use.groups or frozenset().union(*(KNOWN[name] for name in use.names))
            told = {one.split("}}")[0] for one in query.legend.split("{{")[1:]}
            assert told <= left, panel.title


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_asks_for_what_is_exported(rule: Rule) -> None:
    assert list(promql.unknown(rule.expr, KNOWN)) == []


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule.name)
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: Rule) -> None:
    assert rule.severity in ("warning", "critical")
    assert rule.name.startswith("Millrace")
    assert len(rule.texts) in (2, 3)
    assert all(rule.texts)
    assert all((RUNBOOKS.parents[1] / text).is_file() for text in rule.texts[2:])


def test_every_metric_is_watched_by_a_dashboard_or_an_alert() -> None:
    used = {
        name
        for expr in [expr for _, expr in _queries()] + [rule.expr for rule in RULES]
        for name in promql.read(expr).names
    }
    assert [one.name for one in ALL if not used & set(one.series)] == []


def test_every_recorded_rule_is_used_by_an_alert_or_is_for_people() -> None:
    recorded = [rule for rule in RULES if not rule.alert]
    assert all(rule.name.startswith("millrace:") for rule in recorded)
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_panels_lie_side_by_side_and_have_numbers_of_their_own(board: Board) -> None:
    panels = built(board, {})["panels"]
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= WIDTH for place in places)
    for one, other in itertools.combinations(places, 2):
        beside = one["x"] >= other["x"] + other["w"] or other["x"] >= one["x"] + one["w"]
        below = one["y"] >= other["y"] + other["h"] or other["y"] >= one["y"] + one["h"]
        assert beside or below
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_a_dashboard_links_to_the_others_and_not_to_itself() -> None:
    row = Row("r", (Panel("p", (Query("up", "{{job}}"),)),))
    found = built(Board("one", "One", "help", (row,)), {"one": "One", "two": "Two"})
    assert [link["url"] for link in found["links"]] == ["/d/two"]
    target = found["panels"][1]["targets"][0]
    assert (target["expr"], target["legendFormat"]) == ("up", "{{job}}")
    assert json.dumps(found)
