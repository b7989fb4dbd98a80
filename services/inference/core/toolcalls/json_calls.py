"""Owns the reading of calls that are JSON objects, and where a bracketed value ends.

Must not know markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from services.inference.core.toolcalls.events import MalformedToolCall, ToolCall

_OPENING, _CLOSING = "{[(", "}])"
DEEPEST = 200
"""Levels of brackets in a call; orjson itself goes to 1,024, Python's parser not as far."""


class NotACall(ValueError):
    """What was written is not a call; the message says why."""


class ValueEnd:
    """Finds the end of a value that begins with a bracket, in a text that grows."""

    def __init__(self, quotes: str = '"') -> None:
        self._quotes = quotes
        self._at = self._depth = 0
        self._quote = ""
        self._escaped = False
        self.deepest = 0

    def find(self, text: str) -> int | None:
        """The offset behind the value at the start of `text`; None while it is open."""
        while self._at < len(text):
            character = text[self._at]
            self._at += 1
            if self._quote:
                self._in_string(character)
            elif character in self._quotes:
                self._quote = character
            elif character in _OPENING:
                self._depth += 1
                self.deepest = max(self.deepest, self._depth)
            elif character in _CLOSING:
                self._depth -= 1
                if self._depth <= 0:
                    return self._at
        return None

    def _in_string(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == self._quote:
            self._quote = ""


def inside_string(text: str) -> bool:
    """Whether the text ends inside a JSON string, so that a tag there is data."""
    inside = escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = inside
        elif character == '"':
            inside = not inside
    return inside


def decoded(text: str) -> Any:  # noqa: ANN401 - JSON
    """A JSON value.

    Raises:
        NotACall: it is none.
    """
    try:
        # No lone surrogate can come from UTF-8, but a caller's text may hold one.
        return orjson.loads(text.encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise NotACall(str(error)) from error


def call_with(name: object, raw: str, index: int) -> ToolCall:
    """A call from its name and the text of its arguments.

    Raises:
        NotACall: the name is no name, or the arguments are no object.
    """
    if not isinstance(name, str) or not name:
        raise NotACall("name is empty" if name == "" else "name is not a text")
    arguments = decoded(raw)
    if isinstance(arguments, str):  # some models quote the object once more
        raw, arguments = arguments, decoded(arguments)
    if arguments is None:
        raw, arguments = "{}", {}
    if not isinstance(arguments, dict):
        raise NotACall("arguments is not an object")
    return ToolCall(index, name, arguments, raw)


def fields_of(text: str) -> dict[str, str]:
    """The members of a JSON object, each exactly as it was written.

    Raises:
        NotACall: it is no object.
    """
    try:
        found = msgspec.json.decode(text.encode("utf-8", "replace"), type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise NotACall(str(error)) from error
    return {name: bytes(value).decode() for name, value in found.items()}


def raw_items(text: str) -> list[str]:
    """The elements of a JSON list, each exactly as it was written.

    Raises:
        NotACall: it is no list, or it is empty.
    """
    try:
        found = msgspec.json.decode(text.encode("utf-8", "replace"), type=list[msgspec.Raw])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise NotACall(str(error)) from error
    if not found:
        raise NotACall("the list is empty")
    return [bytes(item).decode() for item in found]


def read_call(text: str, index: int, keys: Sequence[str] = ("arguments",)) -> ToolCall:
    """A call written as one JSON object: a name, and arguments under the first of `keys` there.

    Raises:
        NotACall: it is none.
    """
    fields = fields_of(text)
    if "name" not in fields:
        raise NotACall("there is no name")
    key = next((key for key in keys if key in fields), keys[0])
    return call_with(decoded(fields["name"]), fields.get(key, "{}"), index)


def judged(text: str, index: int, keys: Sequence[str]) -> ToolCall | MalformedToolCall:
    """A JSON object with a name and arguments under one of the keys, as the event that it is."""
    try:
        return read_call(text, index, keys)
    except NotACall as error:
        return MalformedToolCall(index, text, str(error))
