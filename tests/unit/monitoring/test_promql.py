"""Which names stand in a query."""

from __future__ import annotations

import pytest

from infra.prometheus.promql import read, unknown

KNOWN = {"a_total": frozenset({"job", "x"}), "b": frozenset({"y"})}


@pytest.mark.parametrize(
    ("expr", "names", "groups"),
    [
        ("b", {"b"}, set()),
        ("sum by (x) (rate(a_total[5m]))", {"a_total"}, {"x"}),
        ("sum(rate(a_total[$__rate_interval])) by (x, job)", {"a_total"}, {"x", "job"}),
        ("a_total / on (x) group_left (y) b > 1e3", {"a_total", "b"}, {"x", "y"}),
        ("max_over_time(b[1d:5m] offset 1h) and b", {"b"}, set()),
        ('count(b == 0) or vector(0) unless b{y=~"a,b}"}', {"b"}, set()),
        ("histogram_quantile(0.99, sum by (le) (rate(h_bucket[5m])))", {"h_bucket"}, {"le"}),
        ("millrace:slots:ratio > bool 0.5", {"millrace:slots:ratio"}, set()),
        ("time() - b", {"b"}, set()),
    ],
)
def test_names_and_groups(expr: str, names: set[str], groups: set[str]) -> None:
    use = read(expr)
    assert (set(use.names), set(use.groups)) == (names, groups)


def test_labels_stand_with_their_metric() -> None:
    use = read('a_total{x="1", job!~"b.*"} * b{y="}"}')
    assert use.metrics == (("a_total", frozenset({"x", "job"})), ("b", frozenset({"y"})))


@pytest.mark.parametrize(
    ("expr", "faults"),
    [
        ('sum by (y) (b{y="1"})', []),
        ("sum by (x) (b)", ["no metric of this has a label x"]),
        ("c + b", ["there is no metric c"]),
        ('b{x="1"}', ["b has no label x"]),
    ],
)
def test_what_nobody_exports_is_named(expr: str, faults: list[str]) -> None:
    assert list(unknown(expr, KNOWN)) == faults
