"""Owns calls written as a list in Python, `[f(a=1), g()]`: Llama 3.2 and 4 and others.

What a model wrote is read as a syntax tree and never run. Of Python's values those that JSON has
are understood, and JSON's own names for them beside Python's.
"""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

import orjson

from services.inference.core.toolcalls.events import Event, MalformedToolCall, ToolCall
from services.inference.core.toolcalls.json_calls import DEEPEST, NotACall, ValueEnd
from services.inference.core.toolcalls.leading import Beginnings
from services.inference.core.toolcalls.llama import AFTER, TAGS

_PART = re.compile(r"\[\s*(?:[^\W\d][\w.]*\s*)?\(?")
_WHOLE = re.compile(r"\[\s*[^\W\d][\w.]*\s*\(")
_JSON_NAMES = {"true": True, "false": False, "null": None}


def _begins(text: str) -> bool | None:
    """A bracket, a name and a parenthesis begin calls; a link or a list of numbers does not."""
    if _WHOLE.match(text):
        return True
    return None if _PART.fullmatch(text) else False


def _read(body: str, scanned: ValueEnd, index: int) -> list[Event]:
    if scanned.deepest > DEEPEST:
        raise NotACall(f"it has more than {DEEPEST} levels")
    tree = _parsed(body)
    if not isinstance(tree, ast.List) or not tree.elts:
        raise NotACall("it is no list of calls")
    return [_judged(body, node, index + place) for place, node in enumerate(tree.elts)]


def _parsed(body: str) -> ast.expr:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know
            return ast.parse(body, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise NotACall(str(error)) from error


def _judged(body: str, node: ast.expr, index: int) -> Event:
    try:
        return _call(node, index)
    except NotACall as error:
        written = ast.get_source_segment(body, node) or body
        return MalformedToolCall(index, written, str(error))


def _call(node: ast.expr, index: int) -> ToolCall:
    if not isinstance(node, ast.Call):
        raise NotACall("an element of the list is no call")
    if node.args:
        raise NotACall("an argument has no name")
    arguments = _arguments(node.keywords)
    try:
        raw = orjson.dumps(arguments).decode()
    except TypeError as error:  # a lone surrogate, or an integer of more than 64 bits
        raise NotACall(str(error)) from error
    return ToolCall(index, _name(node.func), arguments, raw)


def _arguments(keywords: list[ast.keyword]) -> dict[str, Any]:
    """`a=1`, and `**{"a": 1}`: names that are none in Python have no other way."""
    found: dict[str, Any] = {}
    for keyword in keywords:
        value = _value(keyword.value)
        if keyword.arg is not None:
            found[keyword.arg] = value
        elif isinstance(value, dict):
            found |= value
        else:
            raise NotACall("an argument has no name")
    return found


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=owner, attr=name):
            return f"{_name(owner)}.{name}"
        case _:
            raise NotACall("what is called has no name")


def _value(node: ast.expr) -> Any:  # noqa: ANN401 - JSON
    match node:
        case ast.Constant(value=str() as text):
            return _whole(text)
        case ast.Constant(value=bool() | None | int() as value):
            return value
        case ast.Constant(value=float() as number) if abs(number) != float("inf"):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -_value(ast.Constant(number))
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [_value(element) for element in elements]
        case ast.Dict(keys=keys, values=values):
            return {_key(key): _value(value) for key, value in zip(keys, values, strict=True)}
        case ast.Name(id=name) if name in _JSON_NAMES:
            return _JSON_NAMES[name]
        case _:
            raise NotACall("a value is none that JSON has")


def _key(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _whole(node.value)
    raise NotACall("a key is not a text")


def _whole(text: str) -> str:
    """JSON's escapes make two surrogates of one character; Python leaves them apart."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


PYTHONIC = Beginnings(TAGS[1:], (AFTER,), "[", "\"'", _begins, _read)
