"""Owns a constraint as a structural tag, the form in which xgrammar takes what `core.grammar` says
in Lark. Must not know engines.

Marks are text here: xgrammar finds out by itself which of them are control tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.inference.core.demands import CallShape, Constraint
from services.inference.core.grammar import PLAIN, WRITTEN, Mark, Part, Writing, parsed

Json = dict[str, object]
TAGGED = frozenset(name for name, writing in WRITTEN.items() if writing.arguments is None)
"""Formats whose calls can be said so: those with one JSON value for all arguments. xgrammar has no
way for the others that all of its releases know."""
_ANY: Json = {"type": "any_text"}


def structural_tag(constraint: Constraint) -> Json:
    """The constraint as the object that xgrammar reads.

    One thing is not said: free text of a format without marks (Llama's) may begin as a call does
    and be none. What comes of that is looked at when it has been written.

    Raises:
        SchemaRefused: a schema is not JSON.
    """
    writing = WRITTEN.get(constraint.markup, PLAIN)
    ways = _ways(constraint, writing)
    answer: Json = ways[0] if len(ways) == 1 else {"type": "or", "elements": ways}
    return {"type": "structural_tag", "format": _thinking(constraint, writing, answer)}


def _ways(constraint: Constraint, writing: Writing) -> list[Json]:
    before = _text(writing.answer)
    if constraint.text:
        trigger = _trigger(writing)
        if trigger and not before:
            return [_triggered(constraint, writing, trigger)]
        return [_calls(constraint, writing), _sequence(before, _ANY, "")]
    ways = []
    if constraint.value is not None:
        schema = parsed(constraint.value, "constraint.value")
        ways.append(_sequence(before, _schema(schema), ""))
    if constraint.calls:
        ways.append(_calls(constraint, writing))
    return ways


def _calls(constraint: Constraint, writing: Writing) -> Json:
    """Calls and nothing else."""
    tags: Json = {
        "type": "tags_with_separator",
        "tags": [_tag(writing, call) for call in constraint.calls],
        "separator": _text(writing.between),
        "at_least_one": True,
        "stop_after_first": constraint.once or writing.single,
    }
    return _sequence(_text(writing.begin), tags, _text(writing.end))


def _triggered(constraint: Constraint, writing: Writing, trigger: str) -> Json:
    """Text in which calls may stand."""
    if writing.begin:
        whole = _calls(constraint, writing)
        rest = _text(writing.begin)
        tags = [{"type": "tag", "begin": rest, "content": _inner(whole), "end": _text(writing.end)}]
    else:
        tags = [_tag(writing, call) for call in constraint.calls]
    return {
        "type": "triggered_tags",
        "triggers": [trigger],
        "tags": tags,
        "at_least_one": False,
        "stop_after_first": constraint.once or writing.single,
    }


def _inner(whole: Json) -> object:
    """The calls of a sequence, without what stands around all of them."""
    elements = whole.get("elements")
    return elements[1] if isinstance(elements, list) else whole


def _thinking(constraint: Constraint, writing: Writing, answer: Json) -> Json:
    """Reasoning before the answer: begun by the prompt, or left to the model."""
    reasoning = constraint.reasoning
    if writing.thought is not None:
        before, closing, after = writing.thought
        opening, end = _text(before), closing.text + _text(after)
    elif reasoning is not None:
        opening, end = reasoning.opening, reasoning.closing
    else:
        return answer
    opened = reasoning is not None and reasoning.opened
    thought: Json = {
        "type": "tag", "begin": "" if opened else opening, "content": _ANY, "end": end
    }  # fmt: skip
    thinking: Json = {"type": "sequence", "elements": [thought, answer]}
    return thinking if opened else {"type": "or", "elements": [thinking, answer]}


def _tag(writing: Writing, call: CallShape) -> Json:
    before, after = writing.call(call.name)
    schema = _schema(parsed(call.schema, "constraint.calls"))
    return {"type": "tag", "begin": _text(before), "content": schema, "end": _text(after)}


def _schema(schema: Json) -> Json:
    """xgrammar takes silence about further properties for a no."""
    if schema == {"type": "object"}:
        schema = schema | {"additionalProperties": True}
    return {"type": "json_schema", "json_schema": schema}


def _sequence(before: str, content: Json, after: str) -> Json:
    texts = [{"type": "const_string", "value": text} if text else None for text in (before, after)]
    elements = [one for one in (texts[0], content, texts[1]) if one is not None]
    return content if len(elements) == 1 else {"type": "sequence", "elements": elements}


def _trigger(writing: Writing) -> str:
    """The mark that ends free text, where calls begin with one."""
    first = (writing.begin or writing.call("")[0])[0]
    return first.text if isinstance(first, Mark) else ""


def _text(parts: Sequence[Part]) -> str:
    texts = (part.text if isinstance(part, Mark) else part for part in parts)
    return "".join(text for text in texts if isinstance(text, str))
