"""Owns constrained decoding: a JSON schema as a mask over the next token (llguidance).

Must not know requests, batches or text.
"""

from __future__ import annotations

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from services.inference.ports import EngineFailed, InvalidRequest

# Without this a model may write spaces between tokens until the limit (measured with others).
_COMPACT = {"whitespace_flexible": False}


class JsonConstraint:
    """The state of one answer under one schema."""

    def __init__(self, tokenizer: LLTokenizer, vocabulary: int, schema: str) -> None:
        """Compile, which may take long for a large schema: call it off the event loop."""
        try:
            grammar = LLMatcher.grammar_from_json_schema(schema, overrides=_COMPACT)  # type: ignore[arg-type]  # a partial TypedDict is accepted
        except ValueError as error:
            raise InvalidRequest(_first_line(str(error)), field="json_schema") from error
        self._matcher = LLMatcher(tokenizer, grammar, log_level=0)
        if self._matcher.is_error():
            raise InvalidRequest(_first_line(self._matcher.get_error()), field="json_schema")
        self._vocabulary = vocabulary
        self._mask = np.zeros((vocabulary + 31) // 32, np.int32)

    def masked(self, row: NDArray[np.float32]) -> NDArray[np.float32]:
        """A copy of the row with everything the schema forbids at minus infinity."""
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        allowed = np.unpackbits(self._mask.view(np.uint8), bitorder="little")
        return np.where(allowed[: self._vocabulary].astype(bool), row, np.float32(-np.inf))

    def accept(self, token_id: int) -> bool:
        """Take the chosen token; returns whether the value is complete."""
        self._matcher.consume_token(token_id)
        if self._matcher.is_error():
            raise EngineFailed(_first_line(self._matcher.get_error()))
        return bool(self._matcher.is_stopped())


def _first_line(message: str) -> str:
    return message.strip().splitlines()[0] if message.strip() else "not a usable JSON schema"
