"""Owns constrained decoding: what an answer may be, as a mask over the next token (llguidance).

Must not know requests, batches or text.
"""

from __future__ import annotations

import json

import numpy as np
import orjson
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from services.inference.core.demands import CallShape, Constraint
from services.inference.core.toolcalls import CLOSE, OPEN
from services.inference.ports import EngineFailed, InvalidRequest

# Without this a model may write spaces between tokens until the limit (measured with others).
_COMPACT: dict[str, object] = {"whitespace_flexible": False}
# The spaces that chat templates write and models were trained on.
_SPACED = _COMPACT | {"item_separator": ", ", "key_separator": ": "}


class AnswerConstraint:
    """The state of one answer under one constraint."""

    def __init__(self, tokenizer: LLTokenizer, vocabulary: int, constraint: Constraint) -> None:
        """Compile, which may take long for a large schema: call it off the event loop.

        Raises:
            InvalidRequest: a schema cannot be used; the field is `constraint.value` or
                `constraint.calls`.
        """
        grammar = LLMatcher.grammar_from_lark(_grammar(tokenizer, constraint))
        self._matcher = LLMatcher(tokenizer, grammar, log_level=0)
        if self._matcher.is_error():
            raise _culprit(tokenizer, constraint, self._matcher.get_error())
        self._vocabulary = vocabulary
        self._mask = np.zeros((vocabulary + 31) // 32, np.int32)

    def masked(self, row: NDArray[np.float32]) -> NDArray[np.float32]:
        """A copy of the row with everything that is not allowed at minus infinity."""
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        allowed = np.unpackbits(self._mask.view(np.uint8), bitorder="little")
        return np.where(allowed[: self._vocabulary].astype(bool), row, np.float32(-np.inf))

    def accept(self, token_id: int) -> bool:
        """Take the chosen token; returns whether the answer is complete."""
        self._matcher.consume_token(token_id)
        if self._matcher.is_error():
            raise EngineFailed(_first_line(self._matcher.get_error()))
        return bool(self._matcher.is_stopped())


def _grammar(tokenizer: LLTokenizer, constraint: Constraint) -> str:
    """The constraint in llguidance's dialect of Lark.

    A call looks as chat templates write it. A tag that is a control token of the model is matched
    as that token; elsewhere it is text like any other, and free text ends lazily where it begins.
    """
    opening, closing = _tag(tokenizer, OPEN), _tag(tokenizer, CLOSE)
    ways = [name for name in ("value", "calls") if getattr(constraint, name)]
    rules = [f"start: {' | '.join(ways)}"]
    if constraint.value is not None:
        rules.append(f"value: {_value(constraint)}")
    if constraint.calls:
        rules.append("calls: call" if constraint.once else 'calls: call ("\\n" call)*')
        rules.append(
            f"call: head ({' | '.join(f'body_{i}' for i in range(len(constraint.calls)))})"
        )
        rules.append(f"head: {opening}")
        rules += [f"body_{i}: {_body(one)} {closing}" for i, one in enumerate(constraint.calls)]
    if constraint.text:
        lazy = "" if _is_control(tokenizer, OPEN) else "[lazy]"
        rules[0] = "start: call | TEXT" if constraint.once else "start: call* TEXT"
        rules[rules.index(f"head: {opening}")] = f"head{lazy}: TEXT {opening}"
        rules.append("TEXT: /(.|\\n)*/")
    return "%llguidance {}\n" + "\n".join(rules) + "\n"


def _body(call: CallShape) -> str:
    schema = _json(_parsed(call.schema, "constraint.calls"), _SPACED, strict=call.strict)
    start = json.dumps(f'\n{{"name": {json.dumps(call.name)}, "arguments": ')
    return f'{start} {schema} "}}\\n"'


def _value(constraint: Constraint) -> str:
    schema = _parsed(constraint.value or "{}", "constraint.value")
    return _json(schema, _COMPACT, strict=constraint.strict)


def _parsed(schema: str, field: str) -> dict[str, object]:
    try:
        parsed = orjson.loads(schema)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"a schema is not JSON: {error}", field=field) from error
    return parsed if isinstance(parsed, dict) else {"allOf": [parsed]}


def _json(schema: dict[str, object], form: dict[str, object], *, strict: bool) -> str:
    """A schema inside of a grammar; llguidance reads its own options from the schema's root."""
    options = {"x-guidance": form | {"lenient": not strict}}
    return "%json " + orjson.dumps(schema | options).decode()


def _tag(tokenizer: LLTokenizer, tag: str) -> str:
    return tag if _is_control(tokenizer, tag) else json.dumps(tag)


def _is_control(tokenizer: LLTokenizer, tag: str) -> bool:
    ids = tokenizer.tokenize_str(tag, parse_special=True)
    return len(ids) == 1 and tokenizer.is_special_token(ids[0])


def _culprit(tokenizer: LLTokenizer, constraint: Constraint, message: str) -> InvalidRequest:
    """The schema that does not compile alone."""
    if constraint.value is not None and (why := _wrong(tokenizer, _value(constraint))):
        return InvalidRequest(f"the schema cannot be used: {why}", field="constraint.value")
    for call in constraint.calls:
        if why := _wrong(tokenizer, _body(call)):
            detail = f"the schema of {call.name!r} cannot be used: {why}"
            return InvalidRequest(detail, field="constraint.calls")
    return InvalidRequest(_first_line(message), field="constraint")


def _wrong(tokenizer: LLTokenizer, rule: str) -> str:
    message = LLMatcher.validate_grammar(LLMatcher.grammar_from_lark(f"start: {rule}"), tokenizer)
    return _first_line(message) if message and not message.startswith("WARNING") else ""


def _first_line(message: str) -> str:
    lines = message.strip().splitlines()
    return lines[0].partition("): ")[2] or lines[0] if lines else "not a usable JSON schema"
