"""`WS /v1/responses`: OpenAI's WebSocket mode, what a client sends and how it is answered.

A client sends `{"type": "response.create", ...}` with the fields of `POST /v1/responses`, without
`stream` and `background`, and gets the typed events of the response; then it may send the next one,
with `previous_response_id` to go on. One response at a time. What is wrong with a message is
answered with an `error` event, and the socket stays open. A response that is not stored can be gone
on with on its own socket, and is deleted when that closes.
"""

from __future__ import annotations

from pydantic import ValidationError

from services.ingress.core.http.problems import openai_error, status_of
from services.ingress.core.http.validation import failure_of_validation
from services.ingress.core.responses.body import ResponseBody
from services.ingress.core.responses.fold import Json
from services.ingress.core.tasks.socket import frame_of
from shared.errors import Failure, Permanent, error_of

_TRANSPORTS = ("stream", "background", "stream_options")


def body_of(text: str | None) -> ResponseBody:
    """The request in a message.

    Raises:
        Permanent: `invalid_json`, `unknown_event`, `unsupported_parameter`, `invalid_request`.
    """
    frame = frame_of(text)
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


def error_frame(failure: Failure, trace_id: str) -> Json:
    """What is wrong; it has no place in the log, and no number of it."""
    return {"type": "error", "status": status_of(failure), **openai_error(failure, trace_id)}
