"""Owns filters over rows: a small tree instead of text, rendered and evaluated here alone.

User input reaches a filter as a value of the tree, never as a piece of an expression, and
`scope` is the only way to begin one, so no filter lacks its tenant.
Must not know a database client.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from shared.errors import Permanent

Value = str | int | float | bool
_FIELD = re.compile(r"[a-z][a-z_]{0,30}")
_PLAIN_CONTROLS = "\n\r\t"


@dataclass(frozen=True, slots=True)
class Term:
    """`field op value`."""

    field: str
    op: Literal["==", "<", ">"]
    value: Value


@dataclass(frozen=True, slots=True)
class Filter:
    """Terms that must all hold. Created by `scope`, narrowed by `also`."""

    terms: tuple[Term, ...]

    def also(self, field: str, op: Literal["==", "<", ">"], value: Value) -> Filter:
        """This and one more term."""
        return Filter((*self.terms, Term(field, op, value)))

    def expression(self) -> str:
        """The filter in Milvus' language.

        Raises:
            Permanent: `invalid_filter` for a value that cannot be written as a literal.
        """
        return " and ".join(f"{_field(t.field)} {t.op} {lit(t.value)}" for t in self.terms)

    def matches(self, row: Mapping[str, Value]) -> bool:
        """Whether a row passes: what the expression means."""
        return all(_holds(term, row[term.field]) for term in self.terms)


def scope(tenant: str, collection: str) -> Filter:
    """The rows of one tenant's collection: where every filter begins."""
    return Filter((Term("tenant", "==", tenant), Term("collection", "==", collection)))


def lit(value: Value) -> str:
    """A literal that says exactly `value` on every Milvus (measured with 148 hostile strings).

    Raises:
        Permanent: `invalid_filter` for control characters, which Milvus Lite cannot read back,
            and for numbers that are not finite.
    """
    if isinstance(value, str):
        if any(ord(char) < 32 and char not in _PLAIN_CONTROLS for char in value):
            raise Permanent("invalid_filter", "control characters cannot be searched for")
        return json.dumps(value, ensure_ascii=False)  # \\uXXXX escapes would not be understood
    if isinstance(value, bool):
        return "true" if value else "false"
    if not math.isfinite(value):
        raise Permanent("invalid_filter", f"{value} is no number to compare with")
    return repr(value)


def _field(name: str) -> str:
    if not _FIELD.fullmatch(name):
        raise Permanent("invalid_filter", f"{name[:40]!r} is no field name")
    return name


def _holds(term: Term, found: Value) -> bool:
    if term.op == "==":
        return found == term.value
    if isinstance(found, str) or isinstance(term.value, str):
        raise Permanent("invalid_filter", "only numbers have an order")
    return found < term.value if term.op == "<" else found > term.value
