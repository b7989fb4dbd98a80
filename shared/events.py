"""What a viewer of a session sees, in order and exactly once: facts, and deltas before their fact.

Pure. The cursor of an event names a place in the log: `<seq>` after a fact, and
`<seq>:<task>.<step>.<attempt>.<index>` after a delta that follows the fact `<seq>`, or after a
fact that came in the middle of an answer. Deltas come live from TOKENS; those that were missed are
cut again from `inferred` (texts and offsets), so a cursor stays valid for the whole retention of
the log.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from shared.contracts.facts import Accepted, Done, Forked, Inferred
from shared.contracts.log import Event, StoredFact
from shared.contracts.tokens import TokenDelta
from shared.errors import Permanent

_CURSOR = re.compile(r"(\d{1,19})(?::([A-Za-z0-9_-]{1,64})\.(\d{1,9})\.(\d{1,6})\.(\d{1,9}))?")
_NEVER = 1 << 62
_REMEMBERED = 1_000


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
    """The text of an answer, cut again at the recorded offsets."""
    offsets = [0, *fact.cuts]
    if not fact.cuts or fact.cuts[-1] < len(fact.content):
        offsets.append(len(fact.content))
    parts = [fact.content[a:b] for a, b in pairwise(offsets)]
    return [part for part in parts if part]


def thoughts(fact: Inferred) -> list[str]:
    """What was told of its reasoning before the answer began, cut again at the recorded offsets."""
    return [fact.reasoning[a:b] for a, b in pairwise((0, *fact.thought_cuts))]


def deltas(fact: Inferred) -> list[TokenDelta]:
    """All deltas of an answer, as they were told or would have been."""
    thought, said = thoughts(fact), pieces(fact)
    told = [("", piece) for piece in thought] + [(piece, "") for piece in said]
    return [
        TokenDelta(
            task=fact.task,
            step=fact.step,
            index=index,
            text=text,
            attempt=fact.attempt,
            reasoning=reasoning,
        )
        for index, (text, reasoning) in enumerate(told)
    ]


class Merger:
    """Merges the facts and deltas of one session for one viewer.

    A session has one model call at a time, and the facts tell which: the first step of the task
    that was accepted, then the step behind the tool calls of the last answer. Only that step may
    speak; every other delta is late (TOKENS keeps them for minutes) and was seen already.
    """

    def __init__(self, after: Cursor | None = None) -> None:
        start = after or Cursor()
        self.seq = start.seq
        self._task, self._step = start.task, start.step
        """The step that may speak; no task as long as nothing told."""
        self._attempt, self._index = start.attempt, start.index + 1
        self._ended: deque[str] = deque(maxlen=_REMEMBERED)
        """Tasks whose end was seen last: one may be accepted late, by an owner that was slow."""

    def learn(self, stored: Iterable[StoredFact]) -> None:
        """Facts up to the cursor, in order: not shown again, but they tell which step may speak.

        Without them a viewer that resumes behind a fact gets the next answer with its fact only.
        """
        told = [one.fact for one in stored if one.seq <= self.seq]
        named = bool(self._task)
        for fact in told:
            if not named:
                self._turn(fact)
            elif isinstance(fact, Done):
                self._ended.append(fact.task)

    def delta(self, delta: TokenDelta, time: float) -> list[Event]:
        """A live delta; one that is late, repeated or ahead of a gap is left to the fact."""
        if (delta.task, delta.step) != (self._task, self._step) or delta.attempt < self._attempt:
            return []
        if delta.index != (self._index if delta.attempt == self._attempt else 0):
            return []
        self._attempt, self._index = delta.attempt, delta.index + 1
        return [self._delta_event(delta, time)]

    def fact(self, stored: StoredFact) -> list[Event]:
        """A fact, after the deltas of it that the viewer has not seen."""
        if stored.seq <= self.seq:
            return []
        events: list[Event] = []
        if isinstance(stored.fact, Inferred) and not self._is_over(stored.fact):
            events = self._rest_of(stored.fact, stored.time)
        self._turn(stored.fact)
        self.seq = stored.seq
        event = Event(self._place(), stored.kind, stored.time, stored.task, stored.fact)
        return [*events, event]

    def _place(self) -> str:
        """The cursor behind a fact; one that comes while a step speaks names its last delta too."""
        if not self._index:
            return str(self.seq)
        return f"{self.seq}:{self._task}.{self._step}.{self._attempt}.{self._index - 1}"

    def _is_over(self, fact: Inferred) -> bool:
        """Another result of the step came first, or its task has ended."""
        if not self._task:
            return False
        return fact.task != self._task or fact.step < self._step

    def _turn(self, fact: object) -> None:
        """Whose turn it is after a fact."""
        match fact:
            case Accepted() if fact.task not in self._ended:
                self._open(fact.task, 0)
            case Inferred() if not self._is_over(fact):
                self._open(fact.task, fact.step + len(fact.tool_calls) + 1)
            case Forked() if not self._task:
                self._open(fact.task, fact.step)
            case Done():
                self._ended.append(fact.task)
                if fact.task == self._task:
                    self._open(fact.task, _NEVER)

    def _open(self, task: str, step: int) -> None:
        self._task, self._step = task, step
        self._attempt = self._index = 0

    def _rest_of(self, fact: Inferred, time: float) -> list[Event]:
        same = (fact.step, fact.attempt) == (self._step, self._attempt)
        expected = self._index if same else 0
        return [self._delta_event(delta, time) for delta in deltas(fact)[expected:]]

    def _delta_event(self, delta: TokenDelta, time: float) -> Event:
        place = f"{self.seq}:{delta.task}.{delta.step}.{delta.attempt}.{delta.index}"
        return Event(place, "delta", time, delta.task, delta)
