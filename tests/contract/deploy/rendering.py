"""The variables of a Compose file filled in: as much of the specification as we use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_VARIABLE = re.compile(r"\$\$|\$\{([A-Z_][A-Z0-9_]*)(?::([-?])([^}]*))?\}|\$")


class Unset(Exception):
    """A variable without a value and without a default."""


def render(node: Any, variables: Mapping[str, str]) -> Any:
    """The file, as it was read, with the variables in its texts filled in.

    Raises:
        Unset: where one has neither a value nor a default, or is not written as `${NAME}`.
    """
    if isinstance(node, dict):
        return {key: render(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [render(one, variables) for one in node]
    return _filled(node, variables) if isinstance(node, str) else node


def _filled(text: str, variables: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        name, kind, rest = found[1], found[2], found[3]
        if name is None:
            raise Unset(text)
        if given := variables.get(name):
            return given
        if kind != "-":
            raise Unset(name)
        return rest

    return _VARIABLE.sub(value, text)


def variables_of(text: str) -> set[str]:
    """The names of all variables."""
    return {found[1] for found in _VARIABLE.finditer(text) if found[1]}
