"""Owns what DeepSeek's models write between the tags of a call (V3, R1, and V3.1 on).

V3: `function<sep>NAME`, a line break, the arguments in a fence of Markdown. V3.1: `NAME<sep>` and
the arguments bare.
"""

from __future__ import annotations

import re

from services.inference.core.toolcalls.events import ToolCall
from services.inference.core.toolcalls.json_calls import NotACall, call_with, inside_string
from services.inference.core.toolcalls.tagged import Tags


def _mark(*words: str) -> str:
    """Their tags have a wide bar and, for a space, the block of old tokenizers."""
    return f"<\uff5c{'\u2581'.join(words)}\uff5c>"


ALL_BEGIN, ALL_END = _mark("tool", "calls", "begin"), _mark("tool", "calls", "end")
BEGIN, END = _mark("tool", "call", "begin"), _mark("tool", "call", "end")
SEPARATOR = _mark("tool", "sep")
MARKS = (ALL_BEGIN, ALL_END, BEGIN, END, SEPARATOR)
FENCE = "```json"
_FENCED = re.compile(r"\s*(\S+)\s*```(?:json)?\s*(.*?)\s*(?:```)?\s*", re.DOTALL)


def read_deepseek(body: str, index: int) -> ToolCall:
    """A call from what stands between its tags.

    Raises:
        NotACall: it is none.
    """
    head, separator, rest = body.partition(SEPARATOR)
    if not separator:
        raise NotACall("there is no separator behind the name")
    if fenced := _FENCED.fullmatch(rest):
        return call_with(fenced[1], fenced[2] or "{}", index)
    return call_with(head.strip(), rest.strip() or "{}", index)


def _is_data(body: str) -> bool:
    return inside_string(body.partition(SEPARATOR)[2])


DEEPSEEK = Tags(BEGIN, END, read_deepseek, _is_data, (ALL_BEGIN, ALL_END))
