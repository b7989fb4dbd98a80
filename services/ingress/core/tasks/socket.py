"""The protocol of `WS /v1/sessions/{id}/ws`: one session over one socket.

Frames are JSON objects in text. What a client sends has a `type`, an `id` of the client's own (any
string or number, which the answer repeats as `re`), and the fields of the HTTP body of the same
name beside them:

    submit     agent, input, limits, metadata, on_busy, idempotency_key
    follow     after: the id of the last event seen; absent: from the beginning
    unfollow
    steer      task, text, by, idempotency_key
    approve    task, step, arguments, result, limits, by, note
    reject     task, step, by, note
    cancel     task, by, reason
    retry      task, by, idempotency_key

The server answers each with `{"type": "ok", "re": id, ...}`, with what the HTTP path answers, or
with `{"type": "error", "re": id, "error": problem details}`; the socket stays open after an error.
After `follow` come `{"type": "event", "id": cursor, "kind": ..., "data": ...}` of all tasks of the
session, the same as over `/v1/sessions/{id}/events`; a second `follow` replaces the first.

The socket closes with 1012 when the server restarts and with 1013 when the client does not read for
long. The reason is then the cursor to `follow` after, at any replica. A frame that is too large is
1009.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import Field, ValidationError

from services.ingress.core.http.validation import failure_of_validation, too_deep
from services.ingress.core.tasks.bodies import Body, CancelBody, TaskBody
from services.ingress.core.tasks.control import ApproveBody, RejectBody, RetryBody, SteerBody
from shared.errors import Permanent, error_of

RESTART, TRY_LATER = 1012, 1013
"""Close codes of the WebSocket registry: service restart, try again later."""
_LONGEST_ID = 128


class FollowBody(Body):
    """`follow`."""

    after: str = Field(default="", max_length=200)


class UnfollowBody(Body):
    """`unfollow`."""


BODIES: Mapping[str, type[Body]] = {
    "submit": TaskBody,
    "follow": FollowBody,
    "unfollow": UnfollowBody,
    "steer": SteerBody,
    "approve": ApproveBody,
    "reject": RejectBody,
    "cancel": CancelBody,
    "retry": RetryBody,
}
OF_A_TASK = frozenset({"steer", "approve", "reject", "cancel", "retry"})
_KEYED = frozenset({"steer", "retry"})


@dataclass(frozen=True, slots=True)
class Command:
    """What a client wants. `id` is the client's own, `task` and `key` where they have a meaning."""

    type: str
    id: str | int | None
    body: Body
    task: str = ""
    key: str | None = None


def frame_of(text: str | None) -> dict[str, Any]:
    """The JSON object in a frame.

    Raises:
        Permanent: `invalid_json`; `invalid_request` for what is no object in text, or nests deeply.
    """
    if text is None:
        raise Permanent("invalid_request", "frames are JSON in text, not binary")
    try:
        frame = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Permanent("invalid_json", f"the frame is not JSON: {error}") from error
    if not isinstance(frame, dict):
        raise Permanent("invalid_request", "a frame is a JSON object")
    if (failure := too_deep(frame)) is not None:
        raise error_of(failure)
    return frame


def id_of(frame: Mapping[str, Any]) -> str | int | None:
    """The client's own id, as far as it is one: errors are answered to it as well."""
    given = frame.get("id")
    if isinstance(given, str) and len(given) <= _LONGEST_ID:
        return given
    return given if isinstance(given, int) and not isinstance(given, bool) else None


def command_of(frame: Mapping[str, Any]) -> Command:
    """What a frame asks for.

    Raises:
        Permanent: `unknown_type`, `invalid_request`; `field` names what is wrong.
    """
    rest = dict(frame)
    kind = rest.pop("type", None)
    model = BODIES.get(kind) if isinstance(kind, str) else None
    if model is None or not isinstance(kind, str):
        raise Permanent(
            "unknown_type", f"type is {str(kind)[:80]!r}, not one of {sorted(BODIES)}", field="type"
        )
    if rest.pop("id", None) != id_of(frame):
        detail = f"a string of at most {_LONGEST_ID} characters, or an integer"
        raise Permanent("invalid_request", f"id: {detail}", field="id")
    task = _text(rest, "task", 64) if kind in OF_A_TASK else ""
    key = _text(rest, "idempotency_key", 256) if kind in _KEYED and _has_key(rest) else None
    return Command(kind, id_of(frame), _body(model, rest), task, key)


def _has_key(rest: Mapping[str, Any]) -> bool:
    return rest.get("idempotency_key") is not None


def _text(rest: dict[str, Any], name: str, longest: int) -> str:
    value = rest.pop(name, None)
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        detail = f"{name}: a string of 1 to {longest} characters"
        raise Permanent("invalid_request", detail, field=name)
    return value


def _body(model: type[Body], rest: Mapping[str, Any]) -> Body:
    try:
        return model.model_validate(rest)
    except ValidationError as error:
        raise error_of(failure_of_validation(error.errors())) from error


def ok_frame(re: str | int | None, answer: Mapping[str, object]) -> bytes:
    """The answer to a command."""
    return orjson.dumps({"type": "ok", "re": re, **answer})


def error_frame(re: str | int | None, problem: Mapping[str, object]) -> bytes:
    """A refusal, or why a stream of events ended."""
    return orjson.dumps({"type": "error", "re": re, "error": problem})


def event_frame(cursor: str, kind: str, data: bytes) -> bytes:
    """An event; `data` is rendered already."""
    return b'{"type":"event","id":"%s","kind":"%s","data":%s}' % (
        cursor.encode(),
        kind.encode(),
        data,
    )
