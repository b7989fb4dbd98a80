"""Owns the watermark: the acknowledgement floor of the durable consumer of DOCS.

The server keeps it, so it survives restarts and is the same for every replica. A version that
failed and waits for its next try holds it back, as it should. Must not know the index.
"""

from __future__ import annotations

from shared.bus import topology
from shared.bus.connect import Bus
from shared.subjects import INDEXER


class ConsumerProgress:
    """Asks the broker, which takes a fraction of a millisecond."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def watermark(self) -> int:
        """Everything up to this stream sequence has been acknowledged."""
        info = await self._bus.api(f"CONSUMER.INFO.{INDEXER.stream}.{INDEXER.name}")
        return int(info["ack_floor"]["stream_seq"])

    async def rewind(self) -> None:
        """A new consumer of the same name begins with the first document."""
        await topology.delete_consumer(self._bus, INDEXER)
        await topology.ensure_consumer(self._bus, INDEXER)
