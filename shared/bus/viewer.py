"""One viewer of a session: a bounded inbox that can never slow who fills it.

Knows neither the bus nor the log. It costs a few hundred bytes while nothing happens: there is no
queue object, no timer and no task in it, because a process has thousands of them.
"""

from __future__ import annotations

import asyncio

from shared.contracts.log import StoredFact
from shared.contracts.tokens import TokenDelta

INBOX = 1000
"""Items that may wait for a viewer; behind that it reads the log instead."""
Item = StoredFact | tuple[TokenDelta, float]


class Viewer:
    """Filled by `offer`, emptied by `take`."""

    __slots__ = ("_behind", "_items", "_most", "_waiter")

    def __init__(self, most: int = INBOX) -> None:
        self._items: list[Item] | None = None
        self._behind = False
        self._most = most
        self._waiter: asyncio.Future[None] | None = None

    def offer(self, item: Item) -> None:
        """Hand over an item; where there is no room left, the viewer falls behind."""
        if self._behind:
            return
        if self._items is None:
            self._items = []
        elif len(self._items) >= self._most:
            self.fall_behind()
            return
        self._items.append(item)
        self._wake()

    def fall_behind(self) -> None:
        """What comes live is not all there is: nothing is kept until the log has been read."""
        self._behind, self._items = True, None
        self._wake()

    async def take(self) -> list[Item] | None:
        """Wait for items; None where the viewer has to read on from the log.

        Whatever is offered after that None is kept: the log is read behind it.
        """
        while self._items is None and not self._behind:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        items, self._items = self._items, None
        if self._behind:
            self._behind = False
            return None
        return items

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
