"""uvicorn, with what it does not say to an application: that it shuts down, and how to hang up."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from services.ingress.adapters.http.streams import ABORT, CURSOR, Streams
from services.ingress.core.socket import TRY_LATER

_GRACE = 5.0
"""Seconds that a socket's client gets to read what waits for it, and why that is the end."""


class Server(uvicorn.Server):
    """Ends the open streams before it asks the connections to close."""

    def __init__(self, config: uvicorn.Config, streams: Streams) -> None:
        super().__init__(config)
        self._streams = streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, end the streams, then everything else."""
        for server in self.servers:
            server.close()
        await self._streams.stop()  # before uvicorn says the last word of each socket without it
        await super().shutdown(sockets)


class HttpProtocol(HttpToolsProtocol):
    """Tells the application how to end a connection whose client does not read."""

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        extensions: dict[str, Any] = {ABORT: self.transport.abort}
        self.scope["extensions"] = extensions


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
