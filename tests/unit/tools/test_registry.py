"""A tool's schema and the check of its arguments come from one signature."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from msgspec import Meta

from services.tools.core.registry import Registry, ToolContext, as_tool
from shared.errors import Broken, Permanent

CONTEXT = ToolContext(tenant="t", session="s", task="k", step=1, call="c")


async def convert(
    context: ToolContext,
    amount: Annotated[int, Meta(description="how much", ge=0)],
    unit: Literal["cm", "m"] = "cm",
) -> str:
    """Convert a
    length

    Not part of the description.
    """
    return f"{context.session}: {amount} {unit}"


TOOL = as_tool(convert)


def test_the_schema_is_that_of_the_signature() -> None:
    assert TOOL.spec.name == "convert"
    assert TOOL.spec.description == "Convert a length"
    assert TOOL.spec.parameters == {
        "type": "object",
        "properties": {
            "amount": {"type": "integer", "description": "how much", "minimum": 0},
            "unit": {"enum": ["cm", "m"], "default": "cm"},
        },
        "required": ["amount"],
        "additionalProperties": False,
    }


async def test_arguments_are_read_and_the_tool_is_called() -> None:
    arguments = TOOL.read('{"amount": "3"}')
    assert arguments == {"amount": 3, "unit": "cm"}, "models write numbers as text"
    assert await TOOL.run(CONTEXT, arguments) == "s: 3 cm"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ("{}", "amount"),
        ("", "amount"),
        ('{"amount": "x"}', "amount"),
        ('{"amount": -1}', "amount"),
        ('{"amount": 1, "unit": "km"}', "unit"),
        ('{"amount": 1, "colour": 2}', "colour"),
        ("[1]", None),
        ("{", None),
    ],
)
def test_bad_arguments_name_the_field(arguments: str, field: str | None) -> None:
    with pytest.raises(Permanent) as caught:
        TOOL.read(arguments)
    assert (caught.value.code, caught.value.field) == ("invalid_arguments", field)


def test_an_unknown_tool_is_told_what_there_is() -> None:
    registry = Registry([TOOL])
    assert registry.get("convert") is TOOL
    assert [spec.name for spec in registry.specs()] == ["convert"]
    with pytest.raises(Permanent) as caught:
        registry.get("fly")
    assert caught.value.code == "unknown_tool"
    assert "convert" in caught.value.detail


def test_two_tools_of_one_name_are_a_bug() -> None:
    with pytest.raises(Broken):
        Registry([TOOL, TOOL])


async def untyped(thing) -> str:  # type: ignore[no-untyped-def]  # the point of the test
    """Do something"""
    return str(thing)


async def silent(thing: str) -> str:
    return thing


@pytest.mark.parametrize("function", [untyped, silent])
def test_a_tool_needs_types_and_a_docstring(function: object) -> None:
    with pytest.raises(Broken) as caught:
        as_tool(function)  # type: ignore[arg-type]  # the point of the test
    assert caught.value.code == "invalid_tool"
