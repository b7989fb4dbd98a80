"""What a hostile or broken client sends: random bytes, and JSON that was nearly right."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import orjson
from hypothesis import strategies as st

Json = Any

VALID: dict[str, list[Json]] = {
    "task": [
        {"input": "say x", "limits": {"max_steps": 3, "deadline_s": 5.0}, "metadata": {"a": "b"}},
        {"input": [{"role": "user", "content": [{"type": "text", "text": "say x"}]}]},
        {"input": "say x", "sampling": {"temperature": 0.5, "seed": 1, "stop": ["x"]}},
        {"input": "call shout", "on_busy": "steer", "retry_of": "t1"},
    ],
    "control": [
        {"task": "t1", "by": "a", "reason": "b"},
        {"task": "t1", "text": "x", "id": "i"},
        {"task": "t1", "step": 3, "arguments": "{}", "limits": {"max_steps": 9}},
        {"task": "t1", "retry": "t2"},
        {"force": True, "by": "a"},
        {"session": "s9", "step": 0, "results": {"1": "x"}, "input": "say y", "route": "default"},
    ],
    "replay": [{"after": 0, "limit": 5, "differences": True, "at": 3}],
    "docs": [{"document": "d1", "text": "some text", "op": "put", "metadata": {"a": "b"}}],
    "direct": [
        {
            "id": "c1",
            "tenant": "default",
            "model": "default",
            "messages": [{"role": "user", "content": "say x"}],
            "sampling": {"max_tokens": 9},
            "tools": [{"name": "shout", "parameters": {"type": "object"}}],
        }
    ],
    "search": [{"tenant": "default", "collection": "c", "query": "x", "limit": 3, "min_score": 0}],
    "embed": [{"texts": ["one", "two"]}],
    "tasks": [{"tenant": "default", "session": "s", "status": "running", "limit": 5, "before": 9}],
    "usage": [{"tenant": "default", "by": "model", "since": "2026-01-01", "limit": 5}],
}

_LONE = "@half a character@"
"""Stands for a lone surrogate, which JSON can spell and no text may hold."""
_ODD: list[Json] = [
    *(None, True, 0, -1, 2**31, 2**63, 2**64 - 1, 1e308, -1e308, 0.1, "", "x" * 5000, [], {}),
    *(_LONE, "\0", "\u202e", "\U0001f600", "a.b", "*", ">", "_x", "../..", "' OR 1=1 --", [[[[]]]]),
]
json_values = st.recursive(
    st.sampled_from(_ODD) | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=5,
)


def _places(value: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    keys = (
        value.keys()
        if isinstance(value, dict)
        else range(len(value))
        if isinstance(value, list)
        else ()
    )
    for key in keys:
        yield from _places(value[key], (*path, key))


def _replaced(value: Json, path: tuple[Any, ...], new: Json) -> Json:
    if not path:
        return new
    whole = copy.deepcopy(value)
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return whole


@st.composite
def mutated(draw: st.DrawFn, kind: str) -> bytes:
    """A valid body in which one value is another, a field is gone, or some bytes are wrong."""
    value = draw(st.sampled_from(VALID[kind]))
    way = draw(st.sampled_from(["replace", "replace", "drop", "add", "cut", "flip"]))
    if way == "replace":
        path = draw(st.sampled_from(list(_places(value))))
        value = _replaced(value, path, draw(json_values))
    elif way == "drop":
        value = {k: v for k, v in value.items() if k != draw(st.sampled_from(sorted(value)))}
    elif way == "add":
        value = value | {draw(st.text(max_size=8)): draw(json_values)}
    try:
        body = _dumped(value)
    except orjson.JSONEncodeError:  # a surrogate, or an integer that JSON readers cannot hold
        body = repr(value).encode("utf-8", "replace")
    if way == "cut":
        return body[: draw(st.integers(0, len(body)))]
    if way == "flip":
        at = draw(st.integers(0, len(body) - 1))
        return body[:at] + bytes([draw(st.integers(0, 255))]) + body[at + 1 :]
    return body


def _dumped(value: Json) -> bytes:
    return orjson.dumps(value).replace(_LONE.encode(), rb"\ud800")


def every_odd_body(kind: str) -> list[bytes]:
    """Each value of each example replaced by each odd one."""
    return [
        _dumped(_replaced(value, path, odd))
        for value in VALID[kind]
        for path in _places(value)
        for odd in _ODD
    ]


def bodies(kind: str) -> st.SearchStrategy[bytes]:
    """Mostly nearly right, sometimes anything."""
    return mutated(kind) | mutated(kind) | st.binary(max_size=200)


def noise(seed: int, count: int) -> list[bytes]:
    """The same random bytes every time, from nothing to a few kilobytes."""
    source = random.Random(seed)  # noqa: S311  # no secret
    return [source.randbytes(source.choice((0, 1, 7, 64, 900, 6000))) for _ in range(count)]
