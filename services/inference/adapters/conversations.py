"""`Conversations` over the log, with the transcripts of recent sessions kept in memory."""

from __future__ import annotations

from collections import OrderedDict

from services.inference.ports import View
from shared.bus.log import RunLog
from shared.contracts.base import SessionRef
from shared.contracts.facts import Cancelled, Done, InferFailed, Inferred
from shared.contracts.log import StoredFact, decode_fact
from shared.contracts.work import LoggedFact, RouteStep
from shared.transcript import THOUGHT, Transcript


class LogConversations:
    """Reads only what is new since the last step of a session: O(1) per step, however long it is.

    Where the step brings along what is new, it reads nothing: that is half a millisecond less.

    A cached transcript never goes beyond the position of the step it was made for, so the prompt
    of a step does not depend on what else has happened by the time it runs.
    """

    def __init__(self, log: RunLog, keep: int = 512) -> None:
        self._log, self._keep = log, keep
        self._cache: OrderedDict[SessionRef, Transcript] = OrderedDict()

    async def view(self, route: RouteStep, *, repeated: bool = False) -> View:
        """See `Conversations.view`."""
        transcript = self._cache.pop(route.ref, None)
        if transcript is None or transcript.seq > route.seq:
            transcript = Transcript()
        settled = False
        if route.recent is not None and not repeated and route.recent.after <= transcript.seq:
            transcript.fold(_stored(route.ref, fact) for fact in route.recent.facts)
            transcript.seq = max(transcript.seq, route.seq)
        else:
            stored = await self._log.read(route.ref, transcript.seq)
            transcript.fold(fact for fact in stored if fact.seq <= route.seq)
            settled = any(_settles(fact, route) for fact in stored if fact.seq > route.seq)
        self._cache[route.ref] = transcript
        if len(self._cache) > self._keep:
            self._cache.popitem(last=False)
        messages = transcript.messages(reasoning=True)
        thoughts = {n: str(one.pop(THOUGHT)) for n, one in enumerate(messages) if THOUGHT in one}
        return View(tuple(messages), settled, thoughts)


def _stored(ref: SessionRef, fact: LoggedFact) -> StoredFact:
    """What the transcript reads of a fact that came along with the step."""
    body = decode_fact(fact.kind, fact.body)
    return StoredFact(fact.seq, 0.0, ref, fact.kind, "", fact.task, body)


def _settles(stored: StoredFact, route: RouteStep) -> bool:
    """A result of this very step, or the end of its task: a redelivery comes too late.

    So it does when this attempt, or a later one, has failed already.
    """
    fact = stored.fact
    if isinstance(fact, InferFailed) and fact.attempt < route.attempt:
        return False
    if isinstance(fact, Inferred | InferFailed):
        return fact.task == route.task and fact.step == route.step
    return isinstance(fact, Done | Cancelled) and fact.task == route.task
