"""Sessions that are not to be kept: deleted in the end, also where their caller died before.

Whoever answers such a request deletes its session behind the answer. The timer that was set before
the first word of it is there for when nobody did.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.sessions.adapters.deletion import Deletion
from services.sessions.adapters.firings import beside
from shared.bus.connect import Bus
from shared.bus.consume import Delivery, Job
from shared.bus.log import RunLog
from shared.bus.timers import FORGET, UNKEPT, UNKEPT_FOR, forget_later
from shared.contracts.base import SessionRef
from shared.contracts.control import DeleteSession
from shared.contracts.facts import Deleted
from shared.errors import Permanent


@dataclass(frozen=True, slots=True)
class Unkept:
    """A session has been due; `time` is when its timer fired."""

    ref: SessionRef
    time: float


class Forgetting:
    """Deletes what is due, and looks again later where it has been used meanwhile."""

    def __init__(self, bus: Bus, deletion: Deletion) -> None:
        self._bus, self._log, self._deletion = bus, RunLog(bus), deletion

    async def handle(self, due: Unkept) -> None:
        """Delete the session, or set its timer anew.

        Raises:
            Transient: `still_stopping`, `bus_unavailable`; the delivery is tried again.
        """
        history = await self._log.read(due.ref)
        if not history or isinstance(history[-1].fact, Deleted):
            return
        if history[-1].time + UNKEPT_FOR > due.time:
            await forget_later(self._bus, due.ref, history[-1].time)
            return
        try:
            await self._deletion.delete(due.ref, DeleteSession(force=True, by="store: false"))
        except Permanent as error:
            if error.code != "has_forks":
                raise
            await forget_later(self._bus, due.ref, due.time)  # they read their beginning here

    def among[M](self, job: Job[M]) -> Job[M | Unkept]:
        """The job of the timers, with these among them."""
        return beside(job, Unkept, _due, self.handle)


def _due(delivery: Delivery) -> Unkept | None:
    parts = delivery.subject.split(".")
    if parts[4:] != [UNKEPT, FORGET]:
        return None
    return Unkept(SessionRef(parts[2], parts[3]), delivery.time)
