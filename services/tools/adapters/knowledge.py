"""Owns asking the retrieval service over the bus. Must not know how answers read."""

from __future__ import annotations

from collections.abc import Sequence

from shared.bus.connect import Bus
from shared.contracts.base import decode, encode
from shared.contracts.retrieval import Passage, SearchReply, SearchRequest
from shared.errors import Transient, error_of
from shared.subjects import SEARCH
from shared.telemetry import onward

_PATIENCE = 8.0


class BusKnowledge:
    """Core request/reply; whichever replica of retrieval is free answers."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def search(self, request: SearchRequest) -> Sequence[Passage]:
        """Ask, and turn every failure that a retry can mend into one the model understands."""
        try:
            body = await self._bus.request(SEARCH, encode(request), _PATIENCE, onward())
        except Transient as error:
            raise Transient("search_unavailable", "search unavailable") from error
        reply = decode(body, SearchReply)
        if reply.error is None:
            return reply.results
        if reply.error.family == "transient":
            raise Transient(
                "search_unavailable", "search unavailable", retry_after=reply.error.retry_after
            ) from error_of(reply.error)
        raise error_of(reply.error)
