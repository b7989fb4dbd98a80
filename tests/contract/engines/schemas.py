"""Random JSON schemas: what people write for tools and answers, bounded so that an answer ends.

A model with random weights says anything that it is allowed to; without the bounds on lengths and
numbers it would write digits until its limit.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

Schema = dict[str, Any]
NAMES = ("name", "size", "ok", "where to", "größe", 'quo"te', "x_1", "list")
TEXTS = ("a", "two words", "größe", 'quo"te', "back\\slash", "漢字", "", "🙂", "</tool_call>")
PATTERNS = ("^[a-z]{1,6}$", "^[A-F0-9]{4}$", "^(yes|no)$", "^\\d{2}-\\d{2}$")
FORMATS = ("date", "uuid", "time", "ipv4")
_DEEPEST = 3


def random_schema(seed: int) -> Schema:
    """The schema of a seed; an object at its root in most cases."""
    random = Random(seed)  # noqa: S311 - nothing secret
    return _object(random, 0) if random.random() < 0.8 else _any(random, 1)


def random_arguments(seed: int) -> Schema:
    """The schema of a tool's arguments, of a seed."""
    return _object(Random(seed), 0)  # noqa: S311 - nothing secret


def _any(random: Random, depth: int) -> Schema:
    flat = (_integer, _number, _text, _pattern, _format, _constant, _enum, _boolean, _null)
    deep = (_object, _array, _either, _referring)
    kinds: tuple[Callable[[Random, int], Schema], ...] = flat
    if depth < _DEEPEST:
        kinds += deep
    return random.choice(kinds)(random, depth)


def _object(random: Random, depth: int) -> Schema:
    names = random.sample(NAMES, random.randint(0, 4))
    return {
        "type": "object",
        "properties": {name: _any(random, depth + 1) for name in names},
        "required": [name for name in names if random.random() < 0.7],
        "additionalProperties": False,
    }


def _array(random: Random, depth: int) -> Schema:
    least = random.randint(0, 2)
    return {
        "type": "array",
        "items": _any(random, depth + 1),
        "minItems": least,
        "maxItems": least + random.randint(0, 2),
    }


def _either(random: Random, depth: int) -> Schema:
    return {"anyOf": [_any(random, depth + 1) for _ in range(random.randint(2, 3))]}


def _referring(random: Random, depth: int) -> Schema:
    """A definition that is used twice; it stands at the place where it is used."""
    part = _any(random, _DEEPEST)
    return {
        "type": "object",
        "properties": {"from": part, "to": part},
        "required": ["from", "to"],
        "additionalProperties": False,
    }


def _integer(random: Random, depth: int) -> Schema:
    least = random.randint(-50, 50)
    return {"type": "integer", "minimum": least, "maximum": least + random.randint(0, 1000)}


def _number(random: Random, depth: int) -> Schema:
    return {"type": "number", "enum": [random.randint(0, 9) / 4, -1.5, 1e3]}


def _text(random: Random, depth: int) -> Schema:
    least = random.randint(0, 3)
    return {"type": "string", "minLength": least, "maxLength": least + random.randint(0, 8)}


def _pattern(random: Random, depth: int) -> Schema:
    return {"type": "string", "pattern": random.choice(PATTERNS)}


def _format(random: Random, depth: int) -> Schema:
    return {"type": "string", "format": random.choice(FORMATS)}


def _constant(random: Random, depth: int) -> Schema:
    return {"const": random.choice((*TEXTS, 7, True, None, [1, "a"], {"k": "v"}))}


def _enum(random: Random, depth: int) -> Schema:
    return {"enum": random.sample((*TEXTS, 1, 2.5, False, None), random.randint(1, 4))}


def _boolean(random: Random, depth: int) -> Schema:
    return {"type": "boolean"}


def _null(random: Random, depth: int) -> Schema:
    return {"type": "null"}
