"""uvicorn, with what it does not say to an application: that it shuts down, and how to hang up."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from services.ingress.adapters.http.head import BOUNDS, BoundedHead, Bounds, State
from services.ingress.adapters.http.streams import ABORT, CURSOR, Streams
from services.ingress.core.tasks.socket import TRY_LATER

LINGER = 0.5
"""Seconds that a kept connection may be idle while the server stops, before it is closed."""
_GRACE = 5.0
"""Seconds that a socket's client gets to read what waits for it, and why that is the end."""


class Server(uvicorn.Server):
    """Ends the open streams before it asks the connections to close."""

    def __init__(
        self,
        config: uvicorn.Config,
        streams: Streams,
        bounds: Bounds = BOUNDS,
    ) -> None:
        super().__init__(config)
        self.server_state = self._shared = State(bounds)
        self._streams = streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, end the streams, then everything else."""
        for server in self.servers:
            server.close()
        self._shared.stopping = True
        await self._streams.stop()  # before uvicorn says the last word of each socket without it
        await super().shutdown(sockets)


class HttpProtocol(BoundedHead):
    """Tells the application how to end a connection whose client does not read.

    While the server stops, no request that was sent on a kept connection is lost: its answer says
    that it is the last one (`Connection: close`), and only a connection that has been idle for a
    while is closed without a word. uvicorn closes them at once, and with them what is on its way.
    """

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        extensions: dict[str, Any] = {ABORT: self.transport.abort}
        self.scope["extensions"] = extensions

    def on_headers_complete(self) -> None:
        """A request is about to be answered."""
        super().on_headers_complete()
        if self._stopping:
            self._say_close()

    def on_response_complete(self) -> None:
        """It is answered."""
        super().on_response_complete()
        if self._stopping and not self.transport.is_closing():
            self.loop.call_later(LINGER, self._close_idle)

    def shutdown(self) -> None:
        """The server stops."""
        if self._idle:
            self.loop.call_later(LINGER, self._close_idle)
        else:
            self._say_close()

    @property
    def _stopping(self) -> bool:
        return isinstance(self.server_state, State) and self.server_state.stopping

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _say_close(self) -> None:
        """An answer whose head is out cannot say it any more: the next one will."""
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def _close_idle(self) -> None:
        if self._idle:
            self.transport.close()


class SocketProtocol(WebSocketsSansIOProtocol):
    """The same for a WebSocket, which is told why."""

    async def run_asgi(self) -> None:
        """Run the application."""
        extensions: dict[str, Any] = {ABORT: self.hang_up}
        self.scope["extensions"] |= extensions
        await super().run_asgi()

    def keepalive_timeout(self) -> None:
        """A ping was not answered."""
        self.pong_timer = self.pending_ping_payload = None
        self.hang_up()

    def hang_up(self) -> None:
        """Close without waiting for room to write; a client that reads on finds the reason."""
        if not self.close_sent and not self.transport.is_closing():
            cursor: Callable[[], str] = dict(self.scope).get(CURSOR, str)  # type: ignore[assignment]  # ours
            self.queue.put_nowait({"type": "websocket.disconnect", "code": TRY_LATER})
            self.conn.send_close(TRY_LATER, cursor())
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        self.loop.call_later(_GRACE, self.transport.abort)
