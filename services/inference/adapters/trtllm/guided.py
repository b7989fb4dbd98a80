"""Owns how a constraint is said to TensorRT-LLM: a JSON schema or a structural tag for xgrammar, a
grammar for llguidance. Must not know requests.

The schema itself is passed, never wrapped as OpenAI wraps it (1.2.1 takes the wrapper for a schema
and constrains to nothing of use), and never to an engine without a backend, which would drop it in
silence: such an engine does not have the ability.
"""

from __future__ import annotations

import json

import orjson

from services.inference.core.demands import CallShape, Constraint
from services.inference.core.toolcalls import CLOSE, OPEN

Json = dict[str, object]


def for_xgrammar(constraint: Constraint) -> dict[str, object]:
    """The fields of `GuidedDecodingParams`.

    What is only one JSON value is said as its schema, everything with calls as a structural tag.
    """
    if not constraint.calls:
        return {"json": _schema(constraint.value or "{}")}
    form = _free(constraint) if constraint.text else _ways(constraint)
    return {"structural_tag": orjson.dumps({"type": "structural_tag", "format": form}).decode()}


def _ways(constraint: Constraint) -> Json:
    """Calls and nothing else, or a value."""
    calls: Json = {
        "type": "tags_with_separator",
        "tags": [_tag(call) for call in constraint.calls],
        "separator": "\n",
        "at_least_one": True,
        "stop_after_first": constraint.once,
    }
    if constraint.value is None:
        return calls
    return {"type": "or", "elements": [_content(constraint.value), calls]}


def _free(constraint: Constraint) -> Json:
    """Text in which calls may stand."""
    return {
        "type": "triggered_tags",
        "triggers": [OPEN],
        "tags": [_tag(call) for call in constraint.calls],
        "at_least_one": False,
        "stop_after_first": constraint.once,
    }


def _tag(call: CallShape) -> Json:
    return {
        "type": "tag",
        "begin": f'{OPEN}\n{{"name": {json.dumps(call.name)}, "arguments": ',
        "content": _content(call.schema),
        "end": f"}}\n{CLOSE}",
    }


def _content(schema: str) -> Json:
    return {"type": "json_schema", "json_schema": _schema(schema)}


def _schema(text: str) -> Json:
    """A schema as a mapping. xgrammar takes silence about further properties for a no."""
    schema = orjson.loads(text)
    if not isinstance(schema, dict):
        return {"allOf": [schema]}
    if schema == {"type": "object"}:
        return schema | {"additionalProperties": True}
    return schema
