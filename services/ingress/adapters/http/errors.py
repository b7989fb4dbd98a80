"""Every exception as an answer: our errors, FastAPI's validation, unknown paths, and bugs."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from services.ingress.adapters.http.transport import Refused
from services.ingress.core.http.problems import Problem, problem_of
from services.ingress.core.http.validation import failure_of_validation
from shared.errors import Failure, MillraceError

TRACE_KEY = "millrace.trace_id"
"""Where the outermost middleware leaves the trace id in the scope."""
CODE_KEY = "millrace.code"
"""Where the code of a refusal is left in the scope."""
ANTHROPIC_VERSION = "anthropic-version"
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


def trace_id_of(scope: Mapping[str, object]) -> str:
    """The trace that the request belongs to."""
    return str(scope.get(TRACE_KEY, ""))


def speaks_anthropic(headers: Headers) -> bool:
    """Whether the client says that it is Anthropic's; all that it wants to know is the version."""
    return ANTHROPIC_VERSION in headers


def refusal(scope: Scope, failure: Failure) -> Response:
    """The answer to a request that failed."""
    scope[CODE_KEY] = failure.code
    anthropic = speaks_anthropic(Headers(scope=scope))
    path, trace_id = str(scope["path"]), trace_id_of(scope)
    return _response(problem_of(failure, path, trace_id, anthropic=anthropic))


def _response(problem: Problem) -> Response:
    return Response(orjson.dumps(problem.body), problem.status, problem.headers, problem.media_type)


async def _ours(request: Request, error: Exception) -> Response:
    failure = error.as_failure() if isinstance(error, MillraceError) else _bug()
    return refusal(request.scope, failure)


async def _invalid(request: Request, error: Exception) -> Response:
    errors = error.errors() if isinstance(error, RequestValidationError) else []
    return refusal(request.scope, failure_of_validation(errors))


async def _http(request: Request, error: Exception) -> Response:
    if isinstance(error, Refused):
        return refusal(request.scope, error.failure)
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    what = f"{request.method} {request.url.path}"
    detail = f"{what[:200]}: nothing here" if status == 404 else f"{what[:200]} is not possible"
    failure = Failure(code=_CODES.get(status, "invalid_request"), detail=detail)
    response = refusal(request.scope, failure)
    response.headers.update(headers)
    return response


async def bug_answer(request: Request, _error: Exception) -> Response:
    """The answer to a bug."""
    return refusal(request.scope, _bug())


def _bug() -> Failure:
    """Nothing of a foreign exception leaves the process; the log has it under the trace id."""
    return Failure(code="internal", family="broken", detail="an error of ours; it is logged")


async def answer_to(request: Request, error: HTTPException | MillraceError) -> Response:
    """The answer to a request that was refused."""
    return await (_ours if isinstance(error, MillraceError) else _http)(request, error)


def install(app: FastAPI) -> None:
    """Put the handlers into the application."""
    app.add_exception_handler(MillraceError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, bug_answer)
