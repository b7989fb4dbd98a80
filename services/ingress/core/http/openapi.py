"""Completes the OpenAPI document: what every operation answers, and what every error looks like.

The framework writes down what comes in. What goes out leaves as bytes of ours, so it is described
here instead (`answers`). Pure.
"""

from __future__ import annotations

from typing import Any

from services.ingress.core.http.answers import ANSWERS, SCHEMAS, Answers
from services.ingress.core.http.problems import SHARED_PATHS, Dialect, dialect_of

Document = dict[str, Any]
_FRAMEWORKS_OWN = ("HTTPValidationError", "ValidationError")
_ERRORS: dict[Dialect, tuple[str, str]] = {
    "openai": ("application/json", "OpenAIError"),
    "anthropic": ("application/json", "AnthropicError"),
    "millrace": ("application/problem+json", "Problem"),
}
_HEADERS = {
    "Retry-After": {
        "description": "with 429 and 503: seconds after which it is worth another try",
        "schema": {"type": "string"},
    },
    "X-Trace-Id": {
        "description": "the W3C trace that the request belongs to",
        "schema": {"type": "string"},
    },
}


def completed(document: Document) -> Document:
    """The document with all answers; an operation that the table does not know keeps its own."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in _FRAMEWORKS_OWN:
        schemas.pop(name, None)
    schemas.update(SCHEMAS)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            known = ANSWERS.get(f"{method.upper()} {path}")
            if known is not None:
                operation["responses"] = {**_good(known), "default": _error(path)}
    return document


def _good(known: Answers) -> Document:
    found: Document = {}
    for status, media in known.items():
        answer: Document = {"description": _WORDS.get(status, "Done")}
        if media:
            answer["content"] = {kind: {"schema": schema} for kind, schema in media.items()}
        found[status] = answer
    return found


_WORDS = {
    "200": "Done",
    "201": "Made",
    "202": "Taken; it goes on by itself",
    "204": "Nothing follows",
    "503": "Not yet",
}


def _error(path: str) -> Document:
    """Every error of a path; the code in its body says which."""
    dialects: list[Dialect] = [dialect_of(path)]
    if any(path == shared or path.startswith(shared + "/") for shared in SHARED_PATHS):
        dialects.append("anthropic")
    shapes: dict[str, list[Document]] = {}
    for dialect in dialects:
        media, name = _ERRORS[dialect]
        shapes.setdefault(media, []).append({"$ref": f"#/components/schemas/{name}"})
    content = {
        media: {"schema": found[0] if len(found) == 1 else {"anyOf": found}}
        for media, found in shapes.items()
    }
    return {
        "description": "An error; its `code` is stable and its text says what to do",
        "content": content,
        "headers": _HEADERS,
    }


def undescribed(document: Document) -> list[str]:
    """Operations without an entry in the table, and entries without an operation."""
    there = {
        f"{method.upper()} {path}"
        for path, operations in document["paths"].items()
        for method in operations
    }
    return sorted(there ^ ANSWERS.keys())
