"""`WS /v1/responses`: OpenAI's WebSocket mode, what a client sends and how it is answered.

A client sends `{"type": "response.create", ...}` with the fields of `POST /v1/responses`, without
`stream` and `background`, and gets the typed events of the response; then it may send the next one,
with `previous_response_id` to go on. One response at a time. What is wrong with a message is
answered with an `error` event, and the socket stays open. A response that is not stored can be gone
on with on its own socket, and is deleted when that closes.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from pydantic import ValidationError

from services.ingress.core.problems import openai_error, status_of
from services.ingress.core.responses_body import ResponseBody
from services.ingress.core.responses_fold import Json
from services.ingress.core.validation import failure_of_validation, too_deep
from shared.errors import Failure, Permanent, error_of

RESTART = 1012
"""Service restart (IANA registry of WebSocket close codes): connect again, and go on."""
_TRANSPORTS = ("stream", "background", "stream_options")


def body_of(text: str | None) -> ResponseBody:
    """The request in a message.

    Raises:
        Permanent: `invalid_json`, `unknown_event`, `unsupported_parameter`, `invalid_request`.
    """
    frame = _frame(text)
    if frame.get("type") != "response.create":
        detail = f"{str(frame.get('type'))[:80]!r} is no event of ours; there is: response.create"
        raise Permanent("unknown_event", detail, field="type")
    for name in _TRANSPORTS:
        if frame.get(name):
            raise Permanent("unsupported_parameter", f"{name} is not for sockets", field=name)
    if frame.get("generate") is False:
        detail = "nothing has to be warmed up here: send the turn itself"
        raise Permanent("unsupported_parameter", detail, field="generate")
    left = {"type", "generate", *_TRANSPORTS}
    try:
        return ResponseBody.model_validate({k: v for k, v in frame.items() if k not in left})
    except ValidationError as error:
        raise error_of(failure_of_validation(error.errors())) from error


def _frame(text: str | None) -> Mapping[str, object]:
    try:
        frame = orjson.loads(text or "")
    except orjson.JSONDecodeError as error:
        raise Permanent("invalid_json", f"the message is not JSON: {error}") from error
    if not isinstance(frame, dict):
        raise Permanent("invalid_request", "the message must be a JSON object")
    if (failure := too_deep(frame)) is not None:
        raise error_of(failure)
    return frame


def error_frame(failure: Failure, trace_id: str) -> Json:
    """What is wrong; it has no place in the log, and no number of it."""
    return {"type": "error", "status": status_of(failure), **openai_error(failure, trace_id)}
