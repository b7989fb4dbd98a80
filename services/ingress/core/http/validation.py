"""What is wrong with a body: validation errors and nesting as failures that name the field."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from shared.errors import Failure, Permanent

MAX_DEPTH = 64
"""orjson reads 1,024 levels and writes 254; nothing that we take needs more than a few."""
MAX_MESSAGES = 4096
"""Of one request; a conversation that is longer than that belongs into a session."""
_SAYS_NOTHING = frozenset({"beta"})
"""Query parameters that clients send and that change nothing: Anthropic's says which SDK it is."""
_SOURCES = frozenset({"body", "query", "path", "header"})


def failure_of_validation(errors: Iterable[Mapping[str, Any]]) -> Failure:
    """The first of pydantic's errors, as FastAPI reports them.

    Of a union every member reports. The one that got furthest into the value is the one meant; of
    those that got equally far, one that did not fail for the value's type alone.
    """
    first, *others = errors
    if first["type"] == "json_invalid":
        where = first["loc"][-1]
        reason = first.get("ctx", {}).get("error", "")
        return Failure(code="invalid_json", detail=f"the body is not JSON: {reason} (at {where})")
    field = _field(first["loc"])
    root = field.split(".")[0]
    for other in others:
        deeper = _field(other["loc"])
        if deeper.split(".")[0] == root and _rank(deeper, other) > _rank(field, first):
            field, first = deeper, other
    if field == "":
        return Failure(code="invalid_request", detail="the body must be a JSON object")
    return Failure(code="invalid_request", detail=f"{field}: {first['msg']}", field=field)


def _rank(field: str, error: Mapping[str, Any]) -> tuple[int, bool]:
    return field.count("."), not str(error["type"]).endswith("_type")


def _field(location: Sequence[int | str]) -> str:
    """The path of a value: names and indices, without the members of unions on the way."""
    parts = [str(part) for part in location]
    if parts and parts[0] in _SOURCES:
        parts = parts[1:]
    return ".".join(part for i, part in enumerate(parts) if i == 0 or not _is_type(part))


def _is_type(part: str) -> bool:
    return (
        part in {"str", "int", "float", "bool", "constrained-str"}
        or any(c in part for c in "[(")
        or (part.endswith("Body") and part[:1].isupper())
    )


def supported(
    body: Mapping[str, object],
    known: Container[str],
    neutral: Mapping[str, Container[object]],
    codes: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """The members of a body that are known, without nulls.

    What is not known is let through where it asks for nothing: clients send such values always.

    Raises:
        Permanent: `unsupported_parameter`, or the code that `codes` has for it, naming the first
            one that asks for something that we do not do.
    """
    kept: dict[str, object] = {}
    for name, value in body.items():
        if value is None:
            continue
        if name in known:
            kept[name] = value
        elif _bare(value) not in neutral.get(name, ()):
            code = (codes or {}).get(name, "unsupported_parameter")
            raise Permanent(code, f"Unsupported parameter: {name[:80]!r}", field=name[:80])
    return kept


def _bare(value: object) -> object:
    """Without members that are null: `reasoning: {effort: null}` is `{}`."""
    if not isinstance(value, dict):
        return value
    return {name: one for name, one in value.items() if one is not None}


def may_nest(body: bytes) -> bool:
    """Whether a body of JSON has as many brackets as `too_deep` needs to find something."""
    return body.count(b"{") + body.count(b"[") > MAX_DEPTH


def unknown_query(given: Iterable[str], taken: Container[str]) -> Failure | None:
    """A failure naming the first query parameter that a path does not take."""
    for name in given:
        if name not in taken and name not in _SAYS_NOTHING:
            shown = name[:80]
            detail = f"{shown}: there is no such query parameter here"
            return Failure(code="invalid_request", detail=detail, field=shown)
    return None


def too_deep(value: object) -> Failure | None:
    """A failure naming the top-level field that nests deeper than we take."""
    stack: list[tuple[object, int, str]] = [(value, 0, "")]
    while stack:
        item, depth, field = stack.pop()
        if depth > MAX_DEPTH:
            detail = f"nested deeper than {MAX_DEPTH} levels"
            return Failure(code="invalid_request", detail=detail, field=field or None)
        if isinstance(item, dict):
            stack += [(child, depth + 1, field or str(key)) for key, child in item.items()]
        elif isinstance(item, list):
            stack += [(child, depth + 1, field) for child in item]
    return None
