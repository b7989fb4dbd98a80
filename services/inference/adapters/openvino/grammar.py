"""Owns constrained decoding: what an answer may be, as a mask over the next token (llguidance).

Must not know requests, batches or text.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from services.inference.core.demands import Constraint
from services.inference.core.grammar import SchemaRefused, arguments_rules, lark, value_rule
from services.inference.ports import EngineFailed, InvalidRequest

_NO_END = "Too many items"
"""What llguidance 1.9 says of more text in a row without a choice than it looks ahead for."""
_LONG = 256
"""Bytes without a choice from which no mask is computed: it reads all of them for every token
(60,000 letters of a `const`: 30 ms, in which everybody's answers wait)."""


class AnswerConstraint:
    """The state of one answer under one constraint."""

    def __init__(self, tokenizer: LLTokenizer, vocabulary: int, constraint: Constraint) -> None:
        """Compile, which may take long for a large schema: call it off the event loop.

        Raises:
            InvalidRequest: a schema cannot be used; the field is `constraint.value` or
                `constraint.calls`.
        """
        grammar = LLMatcher.grammar_from_lark(grammar_of(tokenizer, constraint))
        self._matcher = LLMatcher(tokenizer, grammar, log_level=0)
        if self._matcher.is_error():
            raise _culprit(tokenizer, constraint, self._matcher.get_error())
        self._tokenizer, self._vocabulary, self._asked = tokenizer, vocabulary, constraint
        self._mask = np.zeros((vocabulary + 31) // 32, np.int32)

    def masked(self, row: NDArray[np.float32]) -> NDArray[np.float32]:
        """A copy of the row with everything that is not allowed at minus infinity."""
        forced = self._matcher.compute_ff_bytes()
        if len(forced) > _LONG:
            return _alone(row, self._first_of(forced))
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        bits = np.unpackbits(self._mask.view(np.uint8), bitorder="little")
        allowed = bits[: self._vocabulary].astype(bool)
        if np.count_nonzero(allowed) == 1:
            self._unmark(allowed)
        return np.where(allowed, row, np.float32(-np.inf))

    def _first_of(self, forced: bytes) -> int:
        """The first token of a text, which is never a control token that reads like it."""
        first: int = self._tokenizer.tokenize_bytes(forced[:_LONG])[0]
        if self._tokenizer.is_special_token(first):
            first = self._tokenizer.tokenize_bytes(forced[:1])[0]
        return first

    def _unmark(self, allowed: NDArray[np.bool_]) -> None:
        """A control token is no way to write its own text, where a schema demands that text.

        llguidance tokenizes what is forced as it would a prompt, control tokens too, and then
        does not take what its mask has let through. The first byte alone leads past it.
        """
        only = int(allowed.argmax())
        if not self._tokenizer.is_special_token(only) or self._matcher.validate_tokens([only]):
            return
        allowed[only] = False
        allowed[self._first_of(self._matcher.compute_ff_bytes())] = True

    def accept(self, token_id: int) -> bool:
        """Take the chosen token; returns whether the answer is complete.

        Raises:
            InvalidRequest: what the schema demands next has no end: a value inside of itself, or
                very many of one. No other answer gets past it.
            EngineFailed: the token is none that the mask lets through.
        """
        self._matcher.consume_token(token_id)
        if self._matcher.is_error():
            raise _failure(self._asked, self._matcher.get_error())
        return bool(self._matcher.is_stopped())


def _alone(row: NDArray[np.float32], token: int) -> NDArray[np.float32]:
    only = np.full_like(row, -np.inf)
    only[token] = row[token]
    return only


def grammar_of(tokenizer: LLTokenizer, constraint: Constraint) -> str:
    """The constraint in llguidance's Lark, for this vocabulary.

    Raises:
        InvalidRequest: a schema is not JSON.
    """
    try:
        return lark(constraint, partial(_token_of, tokenizer))
    except SchemaRefused as error:
        raise InvalidRequest(error.detail, field=error.field) from error


def _token_of(tokenizer: LLTokenizer, mark: str) -> int | None:
    ids = tokenizer.tokenize_str(mark, parse_special=True)
    return ids[0] if len(ids) == 1 and tokenizer.is_special_token(ids[0]) else None


def _failure(constraint: Constraint, message: str) -> InvalidRequest | EngineFailed:
    if _NO_END not in message:
        return EngineFailed(_first_line(message))
    detail = "the schema cannot be used: what it demands has no end, or none that can be reached"
    if constraint.value is None:
        return InvalidRequest(detail, field="constraint.calls")
    return InvalidRequest(detail, field="constraint" if constraint.calls else "constraint.value")


def _culprit(tokenizer: LLTokenizer, constraint: Constraint, message: str) -> InvalidRequest:
    """The schema that does not compile alone."""
    if constraint.value is not None and (
        why := _wrong(tokenizer, f"start: {value_rule(constraint)}")
    ):
        return InvalidRequest(f"the schema cannot be used: {why}", field="constraint.value")
    for call in constraint.calls:
        if why := _wrong(tokenizer, *arguments_rules(call, constraint.markup, "start")):
            detail = f"the schema of {call.name!r} cannot be used: {why}"
            return InvalidRequest(detail, field="constraint.calls")
    return InvalidRequest(_first_line(message), field="constraint")


def _wrong(tokenizer: LLTokenizer, *rules: str) -> str:
    grammar = LLMatcher.grammar_from_lark("\n".join(rules))
    message = LLMatcher.validate_grammar(grammar, tokenizer)
    return _first_line(message) if message and not message.startswith("WARNING") else ""


def _first_line(message: str) -> str:
    lines = message.strip().splitlines()
    return lines[0].partition("): ")[2] or lines[0] if lines else "not a usable JSON schema"
