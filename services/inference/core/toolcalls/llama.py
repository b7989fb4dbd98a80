"""Owns Llama 3's calls: `{"name": ..., "parameters": {...}}`, several set apart by `; `.

A call may stand behind `<|python_tag|>` (Llama 4: `<|python_start|>`).
"""

from __future__ import annotations

import re

from services.inference.core.toolcalls.events import Event
from services.inference.core.toolcalls.json_calls import ValueEnd, fields_of, judged
from services.inference.core.toolcalls.leading import Beginnings

TAG = "<|python_tag|>"
TAGS = (TAG, "<|python_start|>")
AFTER = "<|python_end|>"
SHOWN = '{"name": function name, "parameters":'
"""How its chat templates tell the model what to write."""
KEYS = ("parameters", "arguments")
_FIRST_KEYS = tuple(f'"{key}"' for key in ("name", "type", "function", *KEYS))
_OPEN = re.compile(r"\{\s*")


def _begins(text: str) -> bool | None:
    """Whether an answer that starts like this can be a call: by its first key, as written so far.

    A JSON value that was asked for is told as it comes, then, unless it has such a key, too.
    """
    opened = _OPEN.match(text)
    if opened is None:
        return False
    rest = text[opened.end() :]
    if rest.startswith(_FIRST_KEYS):
        return True
    return None if any(key.startswith(rest) for key in _FIRST_KEYS) else False


def _read(body: str, _: ValueEnd, index: int) -> list[Event] | None:
    fields = fields_of(body)
    if not any(key in fields for key in KEYS):
        return None
    return [judged(body, index, KEYS)]


LLAMA_JSON = Beginnings(TAGS, (";", AFTER), "{", '"', _begins, _read)
