"""What the server refused this connection: told once per subject, counted, handed on.

A refused publication has no answer, so that without this whoever waits for one meets a time-out,
and a refused subscription is never heard of at all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from shared.metrics.catalogue import ALARMS
from shared.telemetry import Log

Operation = Literal["publish", "subscribe"]
_TEXT = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"')
_INBOX = re.compile(r"^(_inbox\.[^.]+\.).*")
"""Every question has an inbox of its own: those of one user are told of as one."""
_MOST = 1000
"""Subjects that are remembered as told; a stranger's guesses must not fill the memory."""


@dataclass(frozen=True, slots=True)
class Denied:
    """One refusal. nats-py hands on the server's text in lower case, and so is the subject."""

    operation: Operation
    subject: str


Listener = Callable[[Denied], None]


class Denials:
    """All refusals of a connection."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._told: set[Denied] = set()
        self._listeners: list[Listener] = []
        self.counts: Counter[Operation] = Counter()
        """How many there were, by what was refused; the alarm counts those of the process."""

    def listen(self, listener: Listener) -> None:
        """Call this at every refusal from now on."""
        self._listeners.append(listener)

    def notice(self, error: Exception) -> bool:
        """Whether an error of the connection was a refusal; then everybody is told."""
        found = denied_in(str(error))
        if found is None:
            return False
        self.counts[found.operation] += 1
        ALARMS.add("permission_violation")
        self._tell(found)
        for listener in self._listeners:
            listener(found)
        return True

    def _tell(self, found: Denied) -> None:
        family = replace(found, subject=_INBOX.sub(r"\1*", found.subject))
        if family not in self._told and len(self._told) < _MOST:
            self._told.add(family)
            fields = {"operation": family.operation, "subject": family.subject}
            self._log.error("bus.permission_denied", **fields)


def denied_in(text: str) -> Denied | None:
    """The refusal that an error of the server tells of, if it is one."""
    found = _TEXT.search(text.lower())
    if found is None:
        return None
    operation: Operation = "publish" if found[1] == "publish" else "subscribe"
    return Denied(operation, found[2])
