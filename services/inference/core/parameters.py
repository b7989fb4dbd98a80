"""Owns how the arguments of a call are written one by one under a constraint: as Python's keywords,
and as Qwen3-Coder's XML, in llguidance's Lark.

What is written is a part of what the schema allows: named properties in their order, no others. A
schema that says more of the object as a whole (one of several forms, names by a pattern) cannot be
written so; Python has a way around, XML has none.
"""

from __future__ import annotations

import json
import keyword
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from services.inference.core.demands import mismatch

Schema = Mapping[str, object]

_UNDERSTOOD = frozenset(
    ("type", "properties", "required", "additionalProperties", "$defs", "definitions", "$schema")
)
_SAYS_NOTHING = frozenset(("title", "description", "examples", "default", "$comment", "strict"))
_ELSEWHERE = re.compile(r'"\$ref":\s*"(?!#/(?:\$defs|definitions)/)')
"""A reference to anything but a definition: nobody finds that from a single property."""
_CLOSE = "\n</parameter>\n"
_ENDS = r"~/(.|\n)*<\/(parameter|function)>(.|\n)*/"
"""What a text may not hold, since it would end there."""
_FORMATS = {
    "date": r"\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])"
    r"|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|[12]\d))",
    "time": r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)",
    "uuid": r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "ipv4": r"((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)",
}
_FORMATS["date-time"] = f"{_FORMATS['date']}T{_FORMATS['time']}"
"""Texts of a form (JSON Schema 2020-12, validation, section 7.3); others are left to the model."""
_ESCAPES = re.compile(r"\\.|/|\n", re.DOTALL)
_CLASSES = {
    r"\d": "[0-9]", r"\D": "[^0-9]", r"\w": "[A-Za-z0-9_]", r"\W": "[^A-Za-z0-9_]", "/": r"\/",
    "\n": r"\n",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Terms:
    """How JSON is written, and whether all of a schema is held to or what can be of it."""

    json: Callable[[Schema], str]
    """A schema as a part of a rule."""
    strict: bool


@dataclass(frozen=True, slots=True)
class Field:
    """One property of an object."""

    name: str
    schema: Schema
    required: bool


def fields_of(schema: Schema) -> list[Field] | None:
    """The properties of an object that its schema lists; None where it says more than that."""
    said = {name for name, value in schema.items() if name not in _SAYS_NOTHING}
    listed = schema.get("properties")
    if listed is None and schema.get("additionalProperties") is False:
        listed = {}
    whole = orjson.dumps(schema).decode()
    if not said <= _UNDERSTOOD or not isinstance(listed, Mapping) or _ELSEWHERE.search(whole):
        return None
    required = schema.get("required", ())
    names = set(required) if isinstance(required, Sequence) else set()
    shared = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    found = [
        Field(name, {**(one if isinstance(one, Mapping) else {}), **shared}, name in names)
        for name, one in listed.items()
        if one is not False
    ]
    return found if names <= {field.name for field in found} else None


def is_open(schema: Schema) -> bool:
    """Whether it is any object: nothing is said of its properties."""
    said = {name for name in schema if name not in _SAYS_NOTHING}
    return said <= {"type", "additionalProperties"} and schema.get("additionalProperties") in (
        None,
        True,
        {},
    )


# -- Python ----------------------------------------------------------------------------------------


def is_python(name: str) -> bool:
    """Whether Python reads it as the name that it is (it takes others for it that look alike)."""
    plain = name.isidentifier() and unicodedata.normalize("NFKC", name) == name
    return plain and not keyword.iskeyword(name) and name != "__debug__"


def keywords(schema: Schema, rule: str, terms: Terms) -> Iterator[str]:
    """The rules of `a=1, b="x"`; of `**{"a b": 1}` where some name is none in Python."""
    fields = fields_of(schema)
    if fields is None or not all(is_python(field.name) for field in fields):
        yield f'{rule}: "**" {terms.json(schema)}'
        return
    yield f"{rule}: {rule}_first_0"
    for place, field in enumerate(fields):
        yield f"{rule}_{place}: {_quoted(f'{field.name}=')} {terms.json(field.schema)}"
        later = f"{rule}_later_{place + 1}"
        for kind, before, skipped in (
            ("first", "", f"{rule}_first_{place + 1}"),
            ("later", '", " ', later),
        ):
            written = f"{before}{rule}_{place} {later}"
            ways = written if field.required else f"{written} | {skipped}"
            yield f"{rule}_{kind}_{place}: {ways}"
    yield f'{rule}_first_{len(fields)}: ""'
    yield f'{rule}_later_{len(fields)}: ""'


# -- XML -------------------------------------------------------------------------------------------


def is_xml(schema: Schema) -> bool:
    """Whether the arguments can be written as parameters, by names that can stand in a tag."""
    fields = fields_of(schema)
    if fields is None:
        return is_open(schema)
    return all(re.fullmatch(r"[^>\s]|[^>\s][^>\n]*[^>\s]", field.name) for field in fields)


def elements(schema: Schema, rule: str, terms: Terms) -> Iterator[str]:
    """The rules of `<parameter=a>`, its value and `</parameter>`, each on lines of their own."""
    fields = fields_of(schema)
    if fields is None:
        yield f"{rule}: {rule}_any*"
        head = r"/<parameter=[A-Za-z_][A-Za-z0-9_]*>\n/"
        yield f"{rule}_any: {head} {_upper(rule)}"
        yield from _text({}, _upper(rule), terms)
        return
    marks = ("" if field.required else "?" for field in fields)
    yield f"{rule}: " + (
        " ".join(f"{rule}_{n}{mark}" for n, mark in enumerate(marks)) if fields else '""'
    )
    for place, field in enumerate(fields):
        name = f"{rule}_{place}"
        head = _quoted(f"<parameter={field.name}>\n")
        if field.schema.get("type") != "string":
            yield f"{name}: {head} {terms.json(field.schema)} {_quoted(_CLOSE)}"
        elif (texts := _listed(field.schema)) is not None:
            yield f"{name}: {head} ({' | '.join(map(_quoted, texts))}) {_quoted(_CLOSE)}"
        else:
            yield f"{name}: {head} {_upper(name)}"
            yield from _text(field.schema, _upper(name), terms)


def _listed(schema: Schema) -> list[str] | None:
    """The texts that it may be, where they are listed."""
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(listed, list):
        return None
    return [one for one in listed if isinstance(one, str) and not mismatch(dict(schema), one)]


def _text(schema: Schema, terminal: str, terms: Terms) -> Iterator[str]:
    """A text as it is, up to what ends it: one terminal, since only that tells where it does.

    An expression that cannot be used (with look-around) refuses a strict schema.
    """
    least, most = schema.get("minLength", 0), schema.get("maxLength", "")
    bounds = f"{{{least},{most}}}" if least or most != "" else "*"
    parts = [f"/(.|\\n){bounds}/", _ENDS]
    pattern = schema.get("pattern") if terms.strict else None
    for regex in (pattern, _FORMATS.get(str(schema.get("format")))):
        if isinstance(regex, str):
            parts.append(f"/{_ESCAPES.sub(_plain, regex)}/")
    yield f"{terminal}_BODY: {' & '.join(parts)}"
    yield f"{terminal}: {terminal}_BODY {_quoted(_CLOSE)}"


def _plain(found: re.Match[str]) -> str:
    """JSON Schema's regular expressions are JavaScript's, whose digits are ten; Rust's are more.

    As many of its texts as begin and end with the expression are allowed: all of them match it.
    """
    return _CLASSES.get(found[0], found[0])


def _upper(rule: str) -> str:
    return f"TEXT_{rule.upper()}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
