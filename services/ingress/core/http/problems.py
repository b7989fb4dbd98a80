"""Errors as HTTP: one table from codes and families to a status, and the bodies they take.

OpenAI's error object on OpenAI paths, Anthropic's on Anthropic paths, RFC 9457 problem details
elsewhere; all carry the stable code and the trace id. Knows no web framework.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from shared.errors import Failure

STATUS_BY_CODE = {
    "invalid_json": 400,
    "unsupported_parameter": 400,
    "invalid_encoding": 400,
    "invalid_http": 400,
    "missing_api_key": 401,
    "invalid_api_key": 401,
    "key_expired": 401,
    "foreign_origin": 403,
    "scope_denied": 403,
    "model_not_allowed": 403,
    "foreign_host": 421,
    "not_found": 404,
    "model_not_found": 404,
    "unknown_agent": 404,
    "unknown_task": 404,
    "unknown_session": 404,
    "unknown_step": 404,
    "unknown_letter": 404,
    "unknown_request": 404,
    "unknown_document": 404,
    "unknown_collection": 404,
    "unknown_schedule": 404,
    "response_not_found": 404,
    "conversation_not_found": 404,
    "item_not_found": 404,
    "item_has_call": 409,
    "unknown_call": 400,
    "missing_tool_output": 400,
    "response_in_progress": 409,
    "response_in_conversation": 409,
    "conversation_locked": 409,
    "unknown_key": 404,
    "method_not_allowed": 405,
    "idempotency_conflict": 409,
    "already_done": 409,
    "task_ended": 409,
    "not_parked": 409,
    "not_running": 409,
    "not_failed": 409,
    "superseded": 409,
    "session_busy": 409,
    "session_exists": 409,
    "has_forks": 409,
    "task_id_used": 409,
    "step_has_result": 409,
    "not_retryable": 409,
    "original_gone": 410,
    "task_cancelled": 409,
    "key_ended": 409,
    "client_too_slow": 408,
    "body_too_large": 413,
    "payload_too_large": 413,
    "url_too_long": 414,
    "unsupported_media_type": 415,
    "rate_limited": 429,
    "too_many_streams": 429,
    "budget_exhausted": 429,
    "too_many_failures": 429,
    "headers_too_large": 431,
    "overloaded": 429,
    "request_timeout": 504,
    "deadline_exceeded": 504,
}
"""Codes whose status is not the one of their family."""

STATUS_BY_FAMILY = {"permanent": 422, "transient": 503, "broken": 500}

MODEL_MISSING = frozenset({"unknown_model", "unknown_route", "no_model", "no_route"})
"""What the router may call it; OpenAI clients know it as `model_not_found`."""

_TITLES = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "The request came too slowly",
    409: "Conflict",
    410: "Gone",
    413: "Body too large",
    414: "URL too long",
    415: "Unsupported media type",
    421: "Misdirected request",
    422: "Invalid request",
    429: "Too many requests",
    431: "Headers too large",
    500: "Internal error",
    503: "Not available now",
    504: "Took too long",
}
Dialect = Literal["openai", "anthropic", "millrace"]
DIALECTS: dict[str, Dialect] = {
    "/v1/chat": "openai",
    "/v1/models": "openai",
    "/v1/embeddings": "openai",
    "/v1/completions": "openai",
    "/v1/responses": "openai",
    "/v1/conversations": "openai",
    "/v1/messages": "anthropic",
}
"""Whose words the paths under a prefix speak; all others speak ours."""
SHARED_PATHS = ("/v1/models",)
"""Anthropic has these too: a client that sends `anthropic-version` is answered in its words."""
_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_TYPES_BY_CODE: dict[Dialect, dict[str, str]] = {
    "openai": {"budget_exhausted": "insufficient_quota"},
    "anthropic": {"budget_exhausted": "billing_error"},
}
"""What a client knows by another type than that of its status."""
_FINAL = frozenset({"budget_exhausted"})
"""Not worth a repetition, whatever the status says: clients that look for the header stop."""
_UNREAD = frozenset({"busy"})
"""Said while the body was still to come, whatever the status says."""
_RETRY_STATUSES = frozenset({429, 503})
_DEFAULT_RETRY_S = 2.0


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as it leaves over HTTP."""

    status: int
    media_type: str
    body: dict[str, object]
    headers: dict[str, str]


def dialect_of(path: str, *, anthropic: bool = False) -> Dialect:
    """Whose words a path speaks, to a client that may have named itself as Anthropic's."""
    prefix = "/".join(path.split("/")[:3])
    if anthropic and prefix in SHARED_PATHS:
        return "anthropic"
    return DIALECTS.get(prefix, "millrace")


def status_of(failure: Failure) -> int:
    """The HTTP status of a failure."""
    if failure.code in MODEL_MISSING:
        return 404
    return STATUS_BY_CODE.get(failure.code, STATUS_BY_FAMILY[failure.family])


def openai_error(failure: Failure, trace_id: str) -> dict[str, object]:
    """OpenAI's error object."""
    status = status_of(failure)
    kind = "server_error" if status >= 500 else "invalid_request_error"
    kind = _TYPES_BY_CODE["openai"].get(failure.code, _OPENAI_TYPES.get(status, kind))
    return {"error": _members(failure, kind, trace_id)}


def anthropic_error(failure: Failure, trace_id: str) -> dict[str, object]:
    """Anthropic's error object; `code`, `param` and `trace_id` are ours.

    The code stands in `details` too, which is where Anthropic's clients look for one.
    """
    status = status_of(failure)
    kind = "api_error" if status >= 500 else "invalid_request_error"
    kind = _TYPES_BY_CODE["anthropic"].get(failure.code, _ANTHROPIC_TYPES.get(status, kind))
    error = _members(failure, kind, trace_id)
    details = {"error_code": error["code"]}
    return {"type": "error", "error": error | {"details": details}, "request_id": trace_id}


def _members(failure: Failure, kind: str, trace_id: str) -> dict[str, object]:
    missing = failure.code in MODEL_MISSING
    return {
        "message": failure.detail or failure.code,
        "type": kind,
        "code": "model_not_found" if missing else failure.code,
        "param": "model" if missing else failure.field,
        "trace_id": trace_id,
    }


def problem_details(failure: Failure, trace_id: str) -> dict[str, object]:
    """RFC 9457; `type` is a URN, because there is no page to link to that every site has."""
    status = status_of(failure)
    body: dict[str, object] = {
        "type": f"urn:millrace:error:{failure.code}",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": failure.detail or failure.code,
        "code": failure.code,
        "trace_id": trace_id,
    }
    if failure.field is not None:
        body["field"] = failure.field
    return body


_SHAPES: dict[Dialect, tuple[str, Callable[[Failure, str], dict[str, object]]]] = {
    "openai": ("application/json", openai_error),
    "anthropic": ("application/json", anthropic_error),
    "millrace": ("application/problem+json", problem_details),
}


def problem_of(failure: Failure, path: str, trace_id: str, *, anthropic: bool = False) -> Problem:
    """The whole answer to a failed request; `anthropic` as for `dialect_of`."""
    dialect = dialect_of(path, anthropic=anthropic)
    status = status_of(failure)
    headers: dict[str, str] = {}
    if status in _RETRY_STATUSES:
        wait = _DEFAULT_RETRY_S if failure.retry_after is None else failure.retry_after
        headers["Retry-After"] = str(max(1, math.ceil(wait)))
    if failure.code in _FINAL:
        headers["x-should-retry"] = "false"
    if status == 401:
        unsure = "" if failure.code == "missing_api_key" else ', error="invalid_token"'
        headers["WWW-Authenticate"] = f'Bearer realm="millrace"{unsure}'
    if status in (408, 413) or failure.code in _UNREAD:
        headers["Connection"] = "close"  # the rest of the body is not read, so nothing can follow
    if status == 409 and (dialect == "anthropic" or failure.code == "idempotency_conflict"):
        headers["x-should-retry"] = "false"  # these clients would; a conflict does not go away
    if dialect == "anthropic":
        headers["request-id"] = trace_id
        status = 400 if status == 422 else status  # it knows no other word for a bad request
    media_type, body = _SHAPES[dialect]
    return Problem(status, media_type, body(failure, trace_id), headers)
