"""Schemas that are small to send and large to read. Some of them ended a worker before they were
measured; the others tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]


def chain(count: int, link: Callable[[Schema], Schema]) -> Schema:
    """Definitions of which each refers to the next one, in the way that `link` says."""
    steps = {f"d{n}": link({"$ref": f"#/$defs/d{n + 1}"}) for n in range(count)}
    return {"$defs": steps | {f"d{count}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def nested(levels: int) -> Schema:
    schema: Schema = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def member(inner: Schema) -> Schema:
    return {"type": "object", "properties": {"a": inner}, "required": ["a"]}


BOMBS: dict[str, Schema] = {
    "itself": {"$ref": "#"},
    "each-other": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
                   "$ref": "#/$defs/a"},
    "itself-by-choice": {"anyOf": [{"type": "string"}, {"not": {"$ref": "#"}}]},
    "itself-by-name": {"$anchor": "me", "allOf": [{"$ref": "#me"}]},
    "doubling": chain(25, lambda inner: {"anyOf": [inner, inner]}),
    "doubling-all": chain(25, lambda inner: {"allOf": [inner, inner]}),
    "doubling-if": chain(25, lambda inner: {"if": inner, "then": inner, "else": inner}),
    "doubling-deep": member(chain(25, lambda inner: {"oneOf": [inner, inner]})["$defs"]["d0"])
    | {"$defs": chain(25, lambda inner: {"oneOf": [inner, inner]})["$defs"]},
    "unevaluated": chain(25, lambda inner: {"allOf": [inner], "unevaluatedProperties": False}),
    "long-chain": chain(3000, lambda inner: inner),
    "long-chain-of-members": chain(2000, member),
    "long-chain-of-choices": chain(1500, lambda inner: {"anyOf": [{"items": inner}]}),
    "enormous-enum": {"enum": [f"value {n}" for n in range(50_000)]},
    "enormous-members": {"properties": {f"member{n}": {} for n in range(20_000)}},
    "enormous-lists": {"enum": [[] for _ in range(20_000)]},
    "patterns-at-once": member({"allOf": [{"pattern": f"^.*a.{{{n}}}b"} for n in range(20)]}),
    "patterns-by-reference": chain(20, lambda inner: {"pattern": "a.*b", "allOf": [inner]}),
    "pairs-of-patterns": {"patternProperties": {f"^x{{{n}}}(a|b)+c$": {} for n in range(200)}},
    "address-of-its-own": {"$defs": {"a": {"$id": "http://127.0.0.1/a", "$ref": "#"}}},
    "draft-4-address": {"$schema": "http://json-schema.org/draft-04/schema#",
                        "definitions": {"a": {"id": "http://127.0.0.1/a"}}},
    "elsewhere": {"$ref": "http://127.0.0.1:9/schema"},
    "file": {"$ref": "file:///etc/passwd"},
    "nowhere": {"$ref": "#/$defs/none"},
    "nowhere-by-name": {"$dynamicRef": "#none"},
}  # fmt: skip
"""Refused as they are, whatever is held against them."""

BRANCHES = {
    "$defs": {
        "tree": {
            "anyOf": [
                {"properties": {"next": {"$ref": "#/$defs/tree"}, "kind": {"const": kind}},
                 "required": ["kind"]}
                for kind in ("a", "b", "c")
            ]
        }
    },
    "$ref": "#/$defs/tree",
}  # fmt: skip
"""An ordinary tree of three kinds; a value of twenty levels is held against 3^20 parts of it."""


def deep_value(levels: int) -> Schema:
    """A value for `BRANCHES` that fits nowhere."""
    value: Schema = {}
    for _ in range(levels):
        value = {"next": value}
    return value
