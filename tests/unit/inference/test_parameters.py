"""Which arguments can be written one by one; that they are read back is tested with the masks."""

from __future__ import annotations

import orjson
import pytest

from services.inference.core.demands import CallShape, Constraint
from services.inference.core.dialect import Dialect
from services.inference.core.grammar import can_write, lark
from services.inference.core.parameters import Schema, fields_of, is_open, is_python, is_xml

TEXT = {"type": "string"}
LISTED = {"type": "object", "properties": {"a": TEXT}, "required": ["a"]}


def written(markup: str, schema: Schema, name: str = "f") -> bool:
    return can_write(markup, (CallShape(name, orjson.dumps(schema).decode(), strict=True),))


@pytest.mark.parametrize(
    ("schema", "listed", "any_object"),
    [
        (LISTED, True, False),
        (LISTED | {"additionalProperties": False, "description": "Adds."}, True, False),
        (LISTED | {"$defs": {"t": TEXT}, "properties": {"a": {"$ref": "#/$defs/t"}}}, True, False),
        ({"type": "object", "additionalProperties": False}, True, False),
        ({"type": "object"}, False, True),
        (LISTED | {"required": ["b"]}, False, False),
        (LISTED | {"anyOf": [{"required": ["a"]}]}, False, False),
        (LISTED | {"minProperties": 1}, False, False),
        (LISTED | {"properties": {"a": {"$ref": "#/properties/a"}}}, False, False),
        ({"type": "object", "additionalProperties": TEXT}, False, False),
    ],
)
def test_what_can_be_listed_and_what_is_any_object(
    schema: Schema, listed: bool, any_object: bool
) -> None:
    assert (fields_of(schema) is not None, is_open(schema)) == (listed, any_object)
    assert is_xml(schema) == (listed or any_object)
    assert written("qwen3_coder", schema) == is_xml(schema)
    assert written("pythonic", schema)  # there is always the way around


def test_definitions_go_with_every_property_that_may_mean_one() -> None:
    named = {"properties": {"a": {"$ref": "#/$defs/t"}}, "$defs": {"t": TEXT}}
    (field,) = fields_of(named) or ()
    assert field.schema == {"$ref": "#/$defs/t", "$defs": {"t": TEXT}}


@pytest.mark.parametrize("name", ["a>b", "a\nb", " a", "a ", ""])
def test_a_name_that_no_tag_can_hold(name: str) -> None:
    assert not is_xml({"properties": {name: TEXT}})


@pytest.mark.parametrize("name", ["from", "two words", "1st", "a-b", "", "ﬁ", "__debug__"])
def test_a_name_that_is_none_in_python(name: str) -> None:
    assert not is_python(name)
    assert is_python("größe")
    assert not written("pythonic", LISTED, name)
    call = CallShape("f", orjson.dumps({"properties": {name: TEXT}}).decode(), strict=True)
    rules = lark(Constraint(calls=(call,), markup="pythonic"), lambda _: None)
    assert '"**" %json' in rules


def test_a_call_that_cannot_be_written_so_is_not_enforced() -> None:
    calls = tuple(CallShape("f", orjson.dumps(one).decode()) for one in (LISTED, {"anyOf": []}))
    for call, able in zip(calls, (True, False), strict=True):
        enforced = Dialect("qwen3_coder").enforced(Constraint(calls=(call,)))
        assert (enforced is not None) == able
    assert Dialect("qwen3_coder").enforced(Constraint(calls=calls)) is None
    assert Dialect("none").enforced(Constraint(calls=calls)) is None
    assert Dialect("none").enforced(Constraint(value="{}")) is not None
