"""What a model call brings along: the facts since the one before it, so that nobody reads them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from shared.contracts.log import Malformed, StoredFact
from shared.contracts.work import LoggedFact, Recent

_SHOWN = frozenset({"task", "accepted", "inferred", "tool_done", "tool_failed", "done", "deleted"})
_MOST = 64


@dataclass(slots=True)
class RecentFacts:
    """The facts of a session after a position; None as position: unknown, bring nothing."""

    after: int | None = None
    facts: list[StoredFact] = field(default_factory=list)

    def start(self, after: int | None, facts: Iterable[StoredFact] = ()) -> None:
        """Begin anew."""
        self.after, self.facts = after, []
        for stored in facts:
            self.add(stored)

    def add(self, stored: StoredFact) -> None:
        """One more fact; what is too much for a message is not brought along."""
        if self.after is None or stored.kind not in _SHOWN or isinstance(stored.fact, Malformed):
            return
        self.facts.append(stored)
        if len(self.facts) > _MOST:
            self.start(None)

    def upto(self, seq: int) -> Recent | None:
        """What a call at this position brings along; the next one starts behind it."""
        known = None
        if self.after is not None:
            known = Recent(
                after=self.after,
                facts=tuple(_logged(stored) for stored in self.facts if stored.seq <= seq),
            )
        self.after = seq
        self.facts = [stored for stored in self.facts if stored.seq > seq]
        return known


def _logged(stored: StoredFact) -> LoggedFact:
    return LoggedFact(
        seq=stored.seq, kind=stored.kind, task=stored.task, body=msgspec.to_builtins(stored.fact)
    )
