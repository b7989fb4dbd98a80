"""What a viewer of a session sees, in order and exactly once: facts, and deltas before their fact.

Pure. The cursor of an event names a place in the log: `<seq>` after a fact, and
`<seq>:<task>.<step>.<attempt>.<index>` after a delta that follows the fact `<seq>`. Deltas come
live from TOKENS; those that were missed are cut again from `inferred` (content and offsets), so a
cursor stays valid for the whole retention of the log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from shared.contracts.facts import Inferred
from shared.contracts.log import Event, StoredFact
from shared.contracts.tokens import TokenDelta
from shared.errors import Permanent

_CURSOR = re.compile(r"(\d{1,19})(?::([A-Za-z0-9_-]{1,64})\.(\d{1,9})\.(\d{1,6})\.(\d{1,9}))?")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place: the last fact seen, and the last delta seen after it."""

    seq: int = 0
    task: str = ""
    step: int = 0
    attempt: int = 0
    index: int = -1


def parse_cursor(text: str) -> Cursor:
    """An event id as a place; the empty string is the beginning.

    Raises:
        Permanent: `invalid_cursor`.
    """
    if not text:
        return Cursor()
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise Permanent("invalid_cursor", f"{text[:80]!r} is no event id of ours", field="after")
    seq, task, *numbers = found.groups()
    if task is None:
        return Cursor(int(seq))
    step, attempt, index = (int(number) for number in numbers)
    return Cursor(int(seq), task, step, attempt, index)


def pieces(fact: Inferred) -> list[str]:
    """The deltas of an answer, cut again at the recorded offsets."""
    offsets = [0, *fact.cuts]
    if not fact.cuts or fact.cuts[-1] < len(fact.content):
        offsets.append(len(fact.content))
    parts = [fact.content[a:b] for a, b in pairwise(offsets)]
    return [part for part in parts if part]


class Merger:
    """Merges the facts and deltas of one session for one viewer."""

    def __init__(self, after: Cursor | None = None) -> None:
        start = after or Cursor()
        self.seq = start.seq
        self._open: dict[tuple[str, int], tuple[int, int]] = {}
        """(task, step) -> attempt and next index of a step that still speaks."""
        if start.task:
            self._open[start.task, start.step] = (start.attempt, start.index + 1)
        self._spoken: set[tuple[str, int]] = set()

    def delta(self, delta: TokenDelta, time: float) -> list[Event]:
        """A live delta; one that is late, repeated or ahead of a gap is left to the fact."""
        key = (delta.task, delta.step)
        if key in self._spoken:
            return []
        attempt, expected = self._open.get(key, (delta.attempt, 0))
        if delta.attempt > attempt:
            attempt, expected = delta.attempt, 0
        if delta.attempt < attempt or delta.index != expected:
            return []
        self._open[key] = (attempt, expected + 1)
        return [self._delta_event(delta, time)]

    def fact(self, stored: StoredFact) -> list[Event]:
        """A fact, after the deltas of it that the viewer has not seen."""
        if stored.seq <= self.seq:
            return []
        events: list[Event] = []
        if isinstance(stored.fact, Inferred):
            events = self._rest_of(stored.fact, stored.time)
        self.seq = stored.seq
        if stored.kind == "done":
            self._forget(stored.task)
        event = Event(str(stored.seq), stored.kind, stored.time, stored.task, stored.fact)
        return [*events, event]

    def _rest_of(self, fact: Inferred, time: float) -> list[Event]:
        key = (fact.task, fact.step)
        if key in self._spoken:
            return []
        attempt, expected = self._open.pop(key, (fact.attempt, 0))
        self._spoken.add(key)
        if attempt != fact.attempt:
            expected = 0
        return [
            self._delta_event(
                TokenDelta(
                    task=fact.task, step=fact.step, index=index, text=text, attempt=fact.attempt
                ),
                time,
            )
            for index, text in enumerate(pieces(fact))
            if index >= expected
        ]

    def _forget(self, task: str) -> None:
        self._spoken = {key for key in self._spoken if key[0] != task}
        self._open = {key: value for key, value in self._open.items() if key[0] != task}

    def _delta_event(self, delta: TokenDelta, time: float) -> Event:
        place = f"{self.seq}:{delta.task}.{delta.step}.{delta.attempt}.{delta.index}"
        return Event(place, "delta", time, delta.task, delta)
