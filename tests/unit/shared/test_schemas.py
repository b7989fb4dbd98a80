"""A schema is measured before it is read, in bounded time and stack of its own."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from shared import schemas
from shared.schemas import MAX_BYTES, MAX_LEVELS, MAX_WORK, TooMuch, check, check_against
from tests.fakes.schema_bombs import BOMBS, BRANCHES, chain, deep_value, member, nested


class Leaf(BaseModel):
    name: str
    tags: list[str] = []


class Tree(BaseModel):
    leaves: dict[str, Leaf]
    left: Tree | None = None
    right: Tree | None = None


GOOD: dict[str, dict[str, Any]] = {
    "empty": {},
    "model": Tree.model_json_schema(),
    "by-name": {"$defs": {"x": {"$anchor": "x", "type": "string"}}, "items": {"$ref": "#x"}},
    "escaped": {"$defs": {"a/b ~": {}}, "items": {"$ref": "#/$defs/a~1b%20~0"}},
    "itself-below": {"type": "array", "items": {"$ref": "#"}},
    "own-address": {"$id": "https://example.org/x", "properties": {"$ref": {"type": "string"}}},
    "place": {"prefixItems": [{"type": "string"}, True], "items": {"$ref": "#/prefixItems/0"}},
    "all-or-nothing": {"$defs": {"all": True}, "items": {"$ref": "#/$defs/all"}},
    "nested": nested(25),
    "as-deep-as-any": chain(250, member),
    "kinds": BRANCHES,
    "one-of-many-patterns": {"anyOf": [{"pattern": f"^{n}"} for n in range(500)]},
    "names": {"patternProperties": {f"^{n}": {"type": "string"} for n in range(60)}},
    "long-number": {"const": 10**40},
    "older": {"definitions": {"a": {"$id": "#a"}}, "dependencies": {"b": ["c"]},
              "items": [{"$ref": "#a"}, {"$ref": "#/definitions/a"}]},
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_people_write_is_taken(name: str) -> None:
    check(GOOD[name])


@pytest.mark.parametrize("name", BOMBS)
def test_what_nobody_should_read_is_refused_at_once(name: str) -> None:
    with pytest.raises(TooMuch) as refused:
        check(BOMBS[name])
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"$ref": "#"}, "back to itself"),
        (chain(2000, member), f"deeper than {MAX_LEVELS}"),
        (chain(25, lambda inner: {"anyOf": [inner, inner]}), f"more than {MAX_WORK}"),
        ({"description": "x" * MAX_BYTES}, f"more than {MAX_BYTES}"),
        ({"const": object()}, "no JSON"),
        (nested(50_000), "nests too deep"),
        ({"$ref": "other#/x"}, "leads out of it: 'other#/x'"),
        ({"$ref": "#/no"}, "leads nowhere: '#/no'"),
    ],
)
def test_a_refusal_says_why(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(TooMuch, match=says):
        check(schema)


def test_the_work_grows_with_the_value() -> None:
    check_against(BRANCHES, deep_value(8))
    with pytest.raises(TooMuch, match="held against"):
        check_against(BRANCHES, deep_value(20))


def test_a_pattern_costs_what_it_reads() -> None:
    patterns = {"allOf": [{"pattern": f"^{n}"} for n in range(20)]}
    check_against(patterns, "a" * 1000)
    with pytest.raises(TooMuch):
        check_against(patterns, "a" * (MAX_WORK // 19))
    names = {"patternProperties": {f"^{n}": {} for n in range(20)}}
    with pytest.raises(TooMuch):
        check_against(names, {"a" * (MAX_WORK // 19): 1})


ROWS = {"type": "array", "items": member({"type": "string", "pattern": "^[0-9a-f-]{36}$"})}


def test_a_thousand_rows_are_no_work() -> None:
    check_against(ROWS, [{"a": "x" * 36}] * 1000)


HEAVY = {"anyOf": [{"minLength": n} for n in range(20)]}
MANY = {str(n): n for n in range(100)}
PLACES: list[tuple[dict[str, Any], dict[str, int] | list[int]]] = [
    ({"additionalProperties": HEAVY}, MANY),
    ({"unevaluatedProperties": HEAVY}, MANY),
    ({"patternProperties": {"": HEAVY}}, MANY),
    ({"propertyNames": HEAVY}, MANY),
    ({"properties": dict.fromkeys(MANY, HEAVY)}, MANY),
    ({"items": HEAVY}, [*range(100)]),
    ({"contains": HEAVY}, [*range(100)]),
    ({"unevaluatedItems": HEAVY}, [*range(100)]),
    ({"additionalItems": HEAVY}, [*range(100)]),
    ({"prefixItems": [HEAVY] * 100}, [*range(100)]),
    ({"items": [HEAVY] * 100}, [*range(100)]),
]


@pytest.mark.parametrize(("schema", "value"), PLACES, ids=lambda one: next(iter(one), ""))
def test_every_place_of_a_value_counts(
    schema: dict[str, Any], value: dict[str, int] | list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the keyword is by which a schema gets there."""
    monkeypatch.setattr(schemas, "MAX_WORK", 500)
    check_against(schema, value[:10] if isinstance(value, list) else {"1": 1})
    with pytest.raises(TooMuch):
        check_against(schema, value)


KEYS = ["$ref", "$anchor", "$id", "allOf", "not", "if", "items", "properties", "pattern", "a"]
TARGETS = ["#", "#a", "#/allOf/0", "#/not", "#/properties/a", "x", "#/items/99999999999"]
drawn = st.recursive(
    st.none() | st.booleans() | st.sampled_from(TARGETS) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=30,
)


@given(st.dictionaries(st.sampled_from(KEYS), drawn, max_size=6), drawn)
def test_nothing_else_is_raised(schema: dict[str, Any], value: object) -> None:
    for measured in (lambda: check(schema), lambda: check_against(schema, value)):
        try:
            measured()
        except TooMuch:
            continue
