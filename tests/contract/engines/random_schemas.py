"""JSON schemas of objects, at random by a seed, which random tokens can meet within bounds."""

from __future__ import annotations

import random
from typing import Any


def random_schema(seed: int) -> dict[str, Any]:
    """The schema of one seed; texts in it may look like markup."""
    return _schema(random.Random(seed))  # noqa: S311 - seeds of a test


def _schema(dice: random.Random, depth: int = 0) -> dict[str, Any]:
    kinds = ["integer", "boolean", "enum", "string", "null"] + ["object", "array"] * (depth < 2)
    match dice.choice(kinds) if depth else "object":
        case "integer":
            return {"type": "integer", "minimum": -9, "maximum": dice.randint(0, 999)}
        case "enum":
            return {"enum": dice.sample(['a"b', "é}", "</tool_call>", 7, None, True], 3)}
        case "string":
            return {"type": "string", "maxLength": dice.randint(0, 8)}
        case "array":
            return {"type": "array", "items": _schema(dice, depth + 1), "maxItems": 2}
        case "object":
            names = dice.sample(["a", "b", "c d", "é", '"'], dice.randint(0, 3))
            return {
                "type": "object",
                "properties": {name: _schema(dice, depth + 1) for name in names},
                "required": dice.sample(names, dice.randint(0, len(names))),
                "additionalProperties": False,
            }
        case kind:
            return {"type": kind}
