"""JSON schemas in a body: refused where they are none, or more than anybody should read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jsonschema_rs

from shared.errors import Permanent
from shared.schemas import TooMuch, check

MAX_TOGETHER = 1 << 20
"""Bytes of all schemas of a request: a face reads them while its other requests wait."""
_PATTERNS = jsonschema_rs.FancyRegexOptions(size_limit=1 << 20)
_NO_PATTERN = 'is not a "regex"'


def check_schemas(found: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Refuse, by its field, the first that is no schema or with which they are too much.

    Raises:
        Permanent: `invalid_request`, naming the field and what is wrong.
    """
    together = 0
    for field, schema in found:
        together += check_schema(schema, field)
        if together > MAX_TOGETHER:
            detail = f"the schemas up to here have more than {MAX_TOGETHER} bytes"
            raise _invalid(field, detail)


def check_schema(schema: Mapping[str, Any], field: str) -> int:
    """Refuse what is no JSON schema, before a worker is asked; nothing is fetched for it.

    Answers how many bytes it has.

    Raises:
        Permanent: `invalid_request`, naming the field and what is wrong.
    """
    try:
        size = check(schema)
        jsonschema_rs.validator_for(dict(schema), offline=True, pattern_options=_PATTERNS)
    except TooMuch as error:
        raise _invalid(field, f"the schema cannot be used: {error}") from error
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        reason = getattr(error, "message", str(error)).splitlines()[0]
        raise _invalid(field, f"not a JSON schema: {_shortened(reason)}") from error
    return size


def _shortened(reason: str) -> str:
    if reason.endswith(_NO_PATTERN):
        hint = "or too large a one: bound a text's length with maxLength"
        return f"{reason.removesuffix(_NO_PATTERN)[:120]} is no regular expression, {hint}"
    return reason[:200]


def _invalid(field: str, detail: str) -> Permanent:
    return Permanent("invalid_request", detail, field=field)
