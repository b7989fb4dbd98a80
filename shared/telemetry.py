"""Structured logs and trace context: how a step is followed through the services.

A log line is a constant event name plus fields. The trace id of a task is the one its client
sent, else it is derived from the task (`shared.trace`), so that every service names it alike
without being told.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import structlog
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer

from shared.contracts.base import SessionRef
from shared.contracts.log import MSG_ID, TASK_HEADER, StoredFact, task_id_of
from shared.subjects import owner_in
from shared.trace import TRACEPARENT, TraceContext, context_of, span_id_of, trace_id_of

Log = structlog.stdlib.BoundLogger
LogFormat = Literal["logfmt", "json"]
Event = MutableMapping[str, Any]
_STEP_ID = re.compile(r"([\w-]{1,64})/([\w-]{1,64})/([\w-]{1,64})\.(\d+)/", re.ASCII)
_MASK = "***"
_SECRET_NAME = re.compile(
    r"(?i)(^|_)(token|secret|password|authorization|api_?key|cookie)$|^creds$"
)
_SECRETS = re.compile(
    r"(?i)(?P<before>bearer\s+|basic\s+|://(?=[^\s/@]+@))[^\s/@\"',]+"
    r"|\bsk-[\w-]{8,}|\bmr_[0-9a-f]{16}_[0-9a-f]{32,}|\bS[UAO][A-Z2-7]{56}\b"
)


# -- logs -------------------------------------------------------------------------------------

_tracebacks = ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
"""Without the variables of each frame: those of a request hold its headers, and so its key."""


def configure(service: str, level: str = "info", form: LogFormat = "logfmt") -> Log:
    """Set up logging for this process: one line each, on standard error; libraries' lines too."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared = (
        structlog.contextvars.merge_contextvars,
        _about_the_message,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _tracebacks,
        _masked,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[_named(service), *shared, _remove_meta, _renderer(form)]
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("faststream").setLevel(logging.ERROR)
    logging.getLogger("asyncio").addFilter(_means_something)
    structlog.configure(
        processors=[*shared, _renderer(form)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    return cast("Log", structlog.get_logger(service=service))


def _means_something(record: logging.LogRecord) -> bool:
    """All but what asyncio says at the end of every TLS connection of nats-py."""
    return "eof_received() has no effect when using ssl" not in str(record.msg)


def _renderer(form: LogFormat) -> structlog.typing.Processor:
    if form == "json":
        return structlog.processors.JSONRenderer(sort_keys=False, ensure_ascii=False)
    return structlog.processors.LogfmtRenderer(
        key_order=["timestamp", "level", "service", "event"], bool_as_flag=False
    )


def _named(service: str) -> structlog.typing.Processor:
    """What a library wrote: its words are no event name of ours, so they are put beside one."""

    def add(_logger: object, _method: str, event: Event) -> Event:
        record: logging.LogRecord = event["_record"]
        event.update(service=service, logger=record.name, message=event["event"])
        event["event"] = "library"
        if record.exc_info:
            event["exc_info"] = record.exc_info
        return event

    return add


def _remove_meta(_logger: object, _method: str, event: Event) -> Event:
    event.pop("_record", None)
    event.pop("_from_structlog", None)
    return event


def _masked(_logger: object, _method: str, event: Event) -> Event:
    """No secret leaves by a log line, whatever it was written into."""
    for name, value in event.items():
        event[name] = _MASK if value and _SECRET_NAME.search(name) else _cleaned(value)
    return event


def _cleaned(value: object) -> object:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {
            name: _MASK if one and _SECRET_NAME.search(str(name)) else _cleaned(one)
            for name, one in value.items()
        }
    if isinstance(value, list | tuple):
        return [_cleaned(one) for one in value]
    return value


def mask(text: str) -> str:
    """A text without the secrets that can be told from their form: keys, credentials in a URL."""
    return _SECRETS.sub(lambda found: (found["before"] or "") + _MASK, text)


# -- what is being handled --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Handled:
    """The message that is being handled; what its log lines say of it is worked out for a line."""

    subject: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    stored: StoredFact | None = None
    sequence: int = 0

    @property
    def trace_id(self) -> str:
        """The trace that the message belongs to; empty where it does not say."""
        context = context_of(self.headers.get(TRACEPARENT))
        return context.trace_id if context else ""

    def fields(self) -> dict[str, object]:
        """Tenant, session, task, step and trace, as far as they are known."""
        found = _by_fact(self.stored) if self.stored else self._by_headers()
        if "task" in found and "session" in found and not self.trace_id:
            ref = SessionRef(str(found["tenant"]), str(found["session"]))
            found["trace_id"] = trace_id_of(ref, str(found["task"]))
        elif self.trace_id:
            found["trace_id"] = self.trace_id
        return found

    def _by_headers(self) -> dict[str, object]:
        found: dict[str, object] = {}
        if owner := owner_in(self.subject):
            found |= {"tenant": owner.tenant, "session": owner.session}
        if self.subject.startswith("run.") and ".task." in self.subject:
            found["task"] = task_id_of(self.sequence, dict(self.headers))
        elif task := self.headers.get(TASK_HEADER):
            found["task"] = task
        if of := _STEP_ID.match(self.headers.get(MSG_ID, "")):
            found |= {"tenant": of[1], "session": of[2], "task": of[3], "step": int(of[4])}
        return found


def _by_fact(stored: StoredFact) -> dict[str, object]:
    found: dict[str, object] = {"tenant": stored.ref.tenant, "session": stored.ref.session}
    if stored.task:
        found["task"] = stored.task
    step = getattr(stored.fact, "step", None)
    return found if step is None else found | {"step": step}


_HANDLED: ContextVar[Handled | None] = ContextVar("handled", default=None)
_REQUEST: ContextVar[TraceContext | None] = ContextVar("request", default=None)
_ONWARD = (MSG_ID, TASK_HEADER, TRACEPARENT)


def handling(message: Handled) -> None:
    """From here on this asyncio task works on that message: its log lines say so, and what it
    publishes for the same task belongs to the same trace. Costs next to nothing by itself."""
    _HANDLED.set(message)


def handled() -> Handled | None:
    """The message that is being handled, if any."""
    return _HANDLED.get()


def onward() -> dict[str, str]:
    """The headers of a question that is asked on behalf of the message in hand: whoever answers
    it says of which task and trace that is."""
    message = _HANDLED.get()
    if message is None:
        return {}
    return {name: message.headers[name] for name in _ONWARD if name in message.headers}


def _about_the_message(_logger: object, _method: str, event: Event) -> Event:
    message, request = _HANDLED.get(), _REQUEST.get()
    if message is not None:
        for name, value in message.fields().items():
            event.setdefault(name, value)
    elif request is not None:
        event.setdefault("trace_id", request.trace_id)
    return event


# -- trace context ----------------------------------------------------------------------------


def traceparent(ref: SessionRef, task: str, span: str, trace_id: str = "") -> str:
    """A W3C `traceparent` for one span of a task, derived from its name.

    Without a trace id it is that of the message being handled, if that is of the same task.
    """
    trace = trace_id or _trace_in_hand(task) or trace_id_of(ref, task)
    return f"00-{trace}-{span_id_of(ref, task, span)}-01"


def _trace_in_hand(task: str) -> str:
    message = _HANDLED.get()
    if message is None or message.headers.get(TASK_HEADER) != task:
        return ""
    return message.trace_id


def requested() -> TraceContext | None:
    """The span of the request that this asyncio task serves, if any."""
    return _REQUEST.get()


def serving(context: TraceContext) -> None:
    """From here on this asyncio task serves that request: the tasks it submits are its children."""
    _REQUEST.set(context)
