"""Owns what a tool is: a typed function, its schema, its bounds. Must not know single tools.

The schema that the model sees and the check of what it sends come from the same signature, so
they cannot differ. A parameter is described with `Annotated[str, Meta(description="...")]`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, get_type_hints

import msgspec
import orjson

from services.tools.core.legs import Legs
from shared.contracts.agents import ToolSpec
from shared.contracts.base import TOKEN
from shared.errors import Broken, Permanent

_PATH = re.compile(r"`\$\.?([^`]+)`")
_NAMED = re.compile(r"(?:required|unknown) field `([^`]+)`")
ToolFunction = Callable[..., Awaitable[str]]


@dataclass(frozen=True, slots=True)
class ToolContext:
    """Who calls, and from where. A tool that needs it takes it as its first parameter."""

    tenant: str
    session: str
    task: str
    step: int
    call: str
    collection: str = "default"
    legs: Legs = field(default_factory=Legs, compare=False)
    """Where a tool notes what it asked of other services."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A callable tool. `timeout` in seconds; `concurrency` is per process.

    A tool with `side_effects` runs at most once per attempt: whether it may have happened is
    written down before it begins. A `Transient` that it raises promises that it did not happen; a
    time-out or any unexpected error leaves that open, and a person is asked.
    """

    spec: ToolSpec
    function: ToolFunction
    arguments: type[msgspec.Struct]
    wants_context: bool
    timeout: float
    concurrency: int
    side_effects: bool = False

    def read(self, arguments: str) -> dict[str, Any]:
        """The arguments the model wrote, checked and converted ("5" where a number is meant).

        Raises:
            Permanent: `invalid_arguments`, naming the field.
        """
        try:
            given = orjson.loads(arguments or "{}")
            checked = msgspec.convert(given, self.arguments, strict=False)
        except orjson.JSONDecodeError as error:
            raise Permanent("invalid_arguments", "the arguments are not JSON") from error
        except msgspec.ValidationError as error:
            found = _PATH.search(str(error)) or _NAMED.search(str(error))
            raise Permanent(
                "invalid_arguments", f"invalid arguments: {error}", field=found and found.group(1)
            ) from error
        return {name: getattr(checked, name) for name in checked.__struct_fields__}

    async def run(self, context: ToolContext, arguments: dict[str, Any]) -> str:
        """Call the function."""
        if self.wants_context:
            return await self.function(context, **arguments)
        return await self.function(**arguments)


class Registry:
    """The tools by name."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if tool.spec.name in self._tools:
                raise Broken("duplicate_tool", tool.spec.name)
            self._tools[tool.spec.name] = tool

    def get(self, name: str) -> Tool:
        """A tool.

        Raises:
            Permanent: `unknown_tool`, with the names there are.
        """
        try:
            return self._tools[name]
        except KeyError:
            known = ", ".join(sorted(self._tools))
            raise Permanent(
                "unknown_tool", f"unknown tool {name[:64]!r}; there are: {known}"
            ) from None

    def specs(self) -> list[ToolSpec]:
        """What the model may be shown."""
        return [self._tools[name].spec for name in sorted(self._tools)]


def as_tool(
    function: ToolFunction,
    *,
    timeout: float = 10.0,
    concurrency: int = 16,
    side_effects: bool = False,
) -> Tool:
    """A tool from a typed function; its docstring's first paragraph is the description.

    Raises:
        Broken: `invalid_tool` for a function without docstring, annotations or a proper name.
    """
    name = getattr(function, "__name__", "")
    description = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
    if not TOKEN.fullmatch(name) or not description:
        raise Broken("invalid_tool", f"{name or function!r} needs a plain name and a docstring")
    arguments, wants_context = _arguments(function, name)
    return Tool(
        spec=ToolSpec(name=name, description=description, parameters=schema(arguments)),
        function=function,
        arguments=arguments,
        wants_context=wants_context,
        timeout=timeout,
        concurrency=concurrency,
        side_effects=side_effects,
    )


def _arguments(function: ToolFunction, name: str) -> tuple[type[msgspec.Struct], bool]:
    """The parameters as a struct that refuses unknown fields, and whether a context comes first."""
    hints = get_type_hints(function, include_extras=True)
    fields: list[tuple[str, type] | tuple[str, type, object]] = []
    wants_context = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name not in hints:
            raise Broken("invalid_tool", f"{name}: {parameter.name} has no type")
        kind = hints[parameter.name]
        if kind is ToolContext:
            wants_context = True
        elif parameter.default is inspect.Parameter.empty:
            fields.append((parameter.name, kind))
        else:
            fields.append((parameter.name, kind, parameter.default))
    struct = msgspec.defstruct(name, fields, forbid_unknown_fields=True, kw_only=True)
    return struct, wants_context


def schema(arguments: type[msgspec.Struct]) -> dict[str, object]:
    """The JSON schema of a struct, as a plain object without references to itself."""
    (_,), components = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    found = dict(components.pop(arguments.__name__))
    found.pop("title", None)
    if components:
        found["$defs"] = components
    return found
