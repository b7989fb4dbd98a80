"""Which metrics and labels a query is about. Pure.

Not a parser: Prometheus' own says whether a query is right. This only tells names apart by what
stands around them, which is enough to find one that nobody exports.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    | (?P<range>\[[^\]]*\])
    | (?P<number>\d[\w.]*)
    | (?P<name>[A-Za-z_:$][\w:]*)
    | (?P<symbol>[^\s])""",
    re.VERBOSE,
)
_GROUPING = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_CALLED = frozenset({"(", "by", "without"})
"""What stands behind a function or an aggregation."""
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "atan2"})
Token = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Use:
    """What a query reads: metrics, the labels that each is chosen by, and labels to group by."""

    metrics: tuple[tuple[str, frozenset[str]], ...]
    groups: frozenset[str]

    @property
    def names(self) -> frozenset[str]:
        """The metrics alone."""
        return frozenset(name for name, _ in self.metrics)


def read(expr: str) -> Use:
    """What a query is about."""
    metrics: list[tuple[str, frozenset[str]]] = []
    groups: set[str] = set()
    tokens = [(str(one.lastgroup), one.group()) for one in _TOKEN.finditer(expr)]
    n = 0
    while n < len(tokens):
        kind, text = tokens[n]
        following = tokens[n + 1][1] if n + 1 < len(tokens) else ""
        if kind == "name" and text in _GROUPING and following == "(":
            names, n = _names(tokens, n + 2, ")")
            groups |= names
        elif kind == "name" and following == "{":
            labels, n = _names(tokens, n + 2, "}")
            metrics.append((text, labels))
        elif kind == "name" and following not in _CALLED and text not in _WORDS | _GROUPING:
            metrics.append((text, frozenset()))
        n += 1
    return Use(tuple(metrics), frozenset(groups))


def _names(tokens: list[Token], n: int, end: str) -> tuple[frozenset[str], int]:
    """The names up to the closing sign, and its place."""
    found = set()
    while n < len(tokens) and tokens[n][1] != end:
        if tokens[n][0] == "name":
            found.add(tokens[n][1])
        n += 1
    return frozenset(found), n


def unknown(expr: str, known: dict[str, frozenset[str]]) -> Iterator[str]:
    """What a query names that is not there; `known` are the metrics with their labels."""
    use = read(expr)
    every: frozenset[str] = frozenset()
    for name, labels in use.metrics:
        if name not in known:
            yield f"there is no metric {name}"
            continue
        every |= known[name]
        yield from (f"{name} has no label {label}" for label in sorted(labels - known[name]))
    yield from (f"no metric of this has a label {label}" for label in sorted(use.groups - every))
