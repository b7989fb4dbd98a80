"""Owns how a constraint is said to TensorRT-LLM: a JSON schema or a structural tag for xgrammar, a
grammar for llguidance. Must not know requests.

The schema itself is passed, never wrapped as OpenAI wraps it (1.2.1 takes the wrapper for a schema
and constrains to nothing of use), and never to an engine without a backend, which would drop it in
silence: such an engine does not have the ability.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import orjson

from services.inference.adapters.openvino.grammar import AnswerConstraint, grammar_of
from services.inference.adapters.tokenizer import FolderTokenizer
from services.inference.core.demands import Constraint
from services.inference.core.structural import TAGGED, structural_tag

Backend = Literal["xgrammar", "llguidance", "none"]


def guided_fields(
    backend: Backend, tokenizer: FolderTokenizer, constraint: Constraint
) -> Mapping[str, object] | None:
    """The fields of `GuidedDecodingParams`, once the constraint has been found to be one.

    None where calls cannot be said to xgrammar: they are looked at when they are written.

    It is compiled here first, by the grammar of the embedded engine: what the engine itself would
    make of a bad schema is an error without a field, in the middle of everybody's step.

    Raises:
        InvalidRequest: a schema cannot be used.
    """
    AnswerConstraint(tokenizer.vendor, tokenizer.vocabulary, constraint)
    if backend == "llguidance":
        return {"grammar": grammar_of(tokenizer.vendor, constraint)}
    if constraint.calls and constraint.markup not in TAGGED:
        return None
    return for_xgrammar(constraint)


def for_xgrammar(constraint: Constraint) -> Mapping[str, object]:
    """What is only one JSON value is said as its schema, everything else as a structural tag."""
    form = structural_tag(constraint)
    found = form["format"]
    if isinstance(found, dict) and found["type"] == "json_schema":
        return {"json": found["json_schema"]}
    return {"structural_tag": orjson.dumps(form).decode()}
