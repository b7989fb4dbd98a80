"""Owns when a request goes out once more: when the kept connection that it took had ended already.

A server may close a kept connection at any time (RFC 9112, section 9.5), and llama.cpp's does so
after every streamed answer though it promises to keep it. A request that crosses such an end was
not heard, so it is no failure of the endpoint and costs nothing to send again. From here the end
looks like that of a server that took the request and broke at once; so only a kept connection
counts, only an end within a second, and only one without the head of an answer. What ended later
may have been worked on, and is not sent again in here (see the decision record on retries).

Must not know SDKs: the two HTTP libraries under them are one to it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from shared.clock import monotonic

_CROSSING = 1.0
"""Seconds after which an end does not come from before the request: somebody may have worked."""


class Carrier(Protocol):
    """A request of either library."""

    @property
    def extensions(self) -> MutableMapping[str, Any]:
        """Where it is told what to note."""
        ...


class _Course:
    """What becomes of a request on its way."""

    def __init__(self) -> None:
        self._since = monotonic()
        self._connected = self._answered = False

    async def note(self, event: str, _: object) -> None:
        """Events as `httpcore` names them."""
        self._connected |= event == "connection.connect_tcp.started"
        self._answered |= event == "http11.receive_response_headers.complete"

    @property
    def unheard(self) -> bool:
        """Whether it crossed the end of a kept connection, as far as can be told."""
        soon = monotonic() - self._since < _CROSSING
        return soon and not self._connected and not self._answered


async def over_a_live_one[T](
    send: Callable[[], Awaitable[T]], request: Carrier, broken: tuple[type[Exception], ...]
) -> T:
    """Send a request; raises what `send` raises. Every try takes a dead connection from the pool,
    so that the last one makes its own."""
    while True:
        course = _Course()
        request.extensions["trace"] = course.note
        try:
            return await send()
        except broken:
            if not course.unheard:
                raise
