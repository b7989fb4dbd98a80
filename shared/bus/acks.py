"""Acknowledgements of messages that are done with: they go to the server with what is sent next.

A write of its own for each costs sender and server about as much as the message itself, in the
middle of a step, and nobody waits for it. Where nothing else is sent, it goes alone within `LATEST`
seconds. A process that is killed in between has its message delivered once more, as after any crash
between publishing and acknowledging.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import nats.errors
from nats.aio.msg import Msg

LATEST = 0.02
"""Seconds; far below every `ack_wait`."""


class Acks:
    """Those of one connection."""

    def __init__(self) -> None:
        self._due: list[Msg] = []
        self._timer: asyncio.TimerHandle | None = None
        self._alone: asyncio.Task[None] | None = None

    def give(self, message: Msg) -> None:
        """Acknowledge it with the next message, or soon."""
        self._due.append(message)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LATEST, self._late)

    def _late(self) -> None:
        self._alone = asyncio.create_task(self.flush())

    async def flush(self) -> None:
        """Send what is due; without a connection the redelivery does the rest."""
        if not self._due:
            return
        due, self._due = self._due, []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for message in due:
            with suppress(nats.errors.Error):
                await message.ack()
