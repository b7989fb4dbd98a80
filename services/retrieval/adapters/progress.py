"""Owns the watermark: the acknowledgement floor of the durable consumer of DOCS.

The server keeps it, so it survives restarts and is the same for every replica. A version that
failed and waits for its next try holds it back, as it should. Must not know the index.
"""

from __future__ import annotations

from typing import Any

from services.retrieval.ports import Standing
from shared.bus.connect import Bus
from shared.subjects import INDEXER

_PLACE = f"{INDEXER.stream}.{INDEXER.name}"


class ConsumerProgress:
    """Asks the broker, which takes a fraction of a millisecond."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def watermark(self) -> int:
        """Everything up to this stream sequence has been acknowledged."""
        return int((await self._info())["ack_floor"]["stream_seq"])

    async def standing(self) -> Standing:
        """With what waits, and what is under way."""
        stream = await self._bus.api(f"STREAM.INFO.{INDEXER.stream}")
        info = await self._info()
        remaining = info["num_pending"] + info["num_ack_pending"]
        return Standing(info["ack_floor"]["stream_seq"], stream["state"]["last_seq"], remaining)

    async def _info(self) -> dict[str, Any]:
        return await self._bus.api(f"CONSUMER.INFO.{_PLACE}")

    async def rewind(self) -> int:
        """A reset leaves the requests of its readers open: they get the first document next.

        An acknowledgement from before the reset may count for the same document after it; that one
        is then under way again all the same, and only not tried twice.
        """
        info = await self._bus.api(f"CONSUMER.RESET.{_PLACE}", {"seq": 1})
        return int(info["num_pending"])
