"""`FactLog` over stream RUNS: pages by direct get, no consumer."""

from __future__ import annotations

from services.ledger.ports import Page
from shared.bus.connect import Bus
from shared.bus.log import RunLog
from shared.subjects import LEDGER, RUNS


class BusLog:
    """The log of a running system."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._log = RunLog(bus)

    async def bounds(self) -> tuple[int, int]:
        """First and last sequence held.

        Raises:
            Transient: the broker does not answer.
        """
        state = (await self._bus.api(f"STREAM.INFO.{RUNS}"))["state"]
        return max(1, state["first_seq"]), state["last_seq"]

    async def unsettled(self) -> tuple[int, int]:
        """From above the consumer's acknowledged floor to the last delivery.

        Raises:
            Transient: the broker does not answer.
        """
        info = await self._bus.api(f"CONSUMER.INFO.{LEDGER.stream}.{LEDGER.name}")
        return info["ack_floor"]["stream_seq"] + 1, info["delivered"]["stream_seq"]

    async def read(self, start: int, limit: int) -> Page:
        """The facts from `start` on; the broker's page (at most 1,000) stands for `limit`.

        Raises:
            Transient: the broker does not answer.
        """
        facts, upto = await self._log.read_page("run.>", start - 1)
        return Page(tuple(facts), upto + 1)
