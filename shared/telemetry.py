"""Structured logs and trace context: how a step is followed through the services.

A log line is a constant event name plus fields. The trace id of a task is the one its client
sent, else it is derived from the task, so that every service names it alike without being told.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from typing import cast

import structlog

from shared.contracts.base import SessionRef

Log = structlog.stdlib.BoundLogger


def configure(service: str, level: str = "info") -> Log:
    """Set up logging for this process: one line of key=value text each, on standard error."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s %(message)s")
    logging.getLogger("faststream").setLevel(logging.ERROR)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.LogfmtRenderer(
                key_order=["timestamp", "level", "service", "event"], bool_as_flag=False
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    return cast("Log", structlog.get_logger(service=service))


def trace_id_of(ref: SessionRef, task: str) -> str:
    """The derived trace id of a task: 32 hex digits."""
    return hashlib.blake2b(f"{ref}/{task}".encode(), digest_size=16).hexdigest()


def traceparent(ref: SessionRef, task: str, span: str, trace_id: str = "") -> str:
    """A W3C `traceparent` for one span of a task, derived from its name."""
    trace = trace_id or trace_id_of(ref, task)
    parent = hashlib.blake2b(f"{ref}/{task}/{span}".encode(), digest_size=8).hexdigest()
    return f"00-{trace}-{parent}-01"
