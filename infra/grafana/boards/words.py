"""The few shapes that queries and panels have.

`$__rate_interval` is Grafana's: long enough for a rate, whatever the distance of two scrapes is.
"""

from __future__ import annotations

from infra.grafana.build import Panel, Query

T = "[$__rate_interval]"


def rate(metric: str, by: str = "", match: str = "") -> str:
    """How often per second, summed over the processes."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{match}{T}))"


def within(time: str, metric: str, by: str = "") -> str:
    """How much more in this time, summed over the processes."""
    return f"sum{f' by ({by})' if by else ''} (increase({metric}[{time}]))"


def quantile(q: float, histogram: str, by: str = "", match: str = "") -> str:
    """A quantile of a histogram over all processes."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket{match}{T})))"


def names(by: str) -> str:
    """A legend of labels."""
    return " ".join(f"{{{{{one.strip()}}}}}" for one in by.split(",")) if by else ""


def line(title: str, expr: str, legend: str = "", unit: str = "short", help_: str = "") -> Panel:
    """A curve, or several of one query."""
    return Panel(title, (Query(expr, legend),), unit, help_)


def area(title: str, expr: str, legend: str, unit: str = "short", help_: str = "") -> Panel:
    """Curves that make up a whole."""
    return Panel(title, (Query(expr, legend),), unit, help_, stacked=True)


def rates(title: str, metric: str, by: str = "", match: str = "", help_: str = "") -> Panel:
    """How often per second, by some labels."""
    return line(title, rate(metric, by, match), names(by) or "all", "ops", help_)


def spread(title: str, histogram: str, by: str = "", match: str = "", help_: str = "") -> Panel:
    """Median and 95th percentile of a histogram of seconds."""
    queries = tuple(
        Query(quantile(q, histogram, by, match), f"{names(by)} p{q * 100:g}".strip())
        for q in (0.5, 0.95)
    )
    return Panel(title, queries, "s", help_)


def tail(title: str, histogram: str, by: str, help_: str = "") -> Panel:
    """The 95th percentile of a histogram of seconds, by some labels."""
    return line(title, quantile(0.95, histogram, by), names(by), "s", help_)


def number(
    title: str, expr: str, unit: str = "short", bad: float | None = None, help_: str = ""
) -> Panel:
    """One number."""
    return Panel(title, (Query(expr),), unit, help_, shape="stat", width=4, bad=bad)
