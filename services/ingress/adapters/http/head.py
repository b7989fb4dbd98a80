"""The head of a request is bounded in length and in time; the application sees none that is not.

httptools keeps a header until it is whole, however long it gets, and uvicorn waits for one as long
as its client likes. What is wrong is answered in the words of the path, as everything else is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from services.ingress.core.http.problems import problem_of
from shared.clock import mint_trace
from shared.errors import Failure


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of the head of a request."""

    url: int = 8192
    """Bytes."""
    head: int = 64 << 10
    """Bytes of the URL and all headers."""
    headers: int = 100
    seconds: float = 10.0
    """For all of it."""


BOUNDS = Bounds()


class State(ServerState):
    """What the connections of a server share."""

    stopping = False

    def __init__(self, bounds: Bounds) -> None:
        super().__init__()
        self.bounds = bounds


class OverBounds(Exception):
    """Stops the parser."""


class BoundedHead(HttpToolsProtocol):
    """Refuses a head that is too long or too slow."""

    url = b""
    _bounds = BOUNDS
    _reading = False
    _size = 0
    _failure: Failure | None = None
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has connected, and has to say what for."""
        super().connection_made(transport)
        if isinstance(self.server_state, State):
            self._bounds = self.server_state.bounds
        self._timer = self.loop.call_later(self._bounds.seconds, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._unset_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A part of a head, of a body, or of several of them."""
        super().data_received(data)
        if not self._reading or self.transport.is_closing():
            return
        self._size += len(data)
        if self._size > self._bounds.head:
            self._refuse(_too_long(f"the headers are longer than {self._bounds.head} bytes"))
        elif self._timer is None:
            self._timer = self.loop.call_later(self._bounds.seconds, self._too_slow)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._reading, self._size = True, 0

    def on_url(self, url: bytes) -> None:
        """A part of its URL."""
        super().on_url(url)
        if len(self.url) > self._bounds.url:
            detail = f"the URL is longer than {self._bounds.url} bytes"
            self._stop(Failure(code="url_too_long", detail=detail))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers, or of what comes behind its body."""
        super().on_header(name, value)
        if len(self.headers) > self._bounds.headers:
            self._stop(_too_long(f"there are more than {self._bounds.headers} headers"))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self._bounds.head:
            self._stop(_too_long(f"the headers are longer than {self._bounds.head} bytes"))
        self._reading = False
        self._unset_timer()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed, or was not parsed to its end."""
        self._refuse(self._failure or Failure(code="invalid_http", detail=msg))

    def _stop(self, failure: Failure) -> None:
        self._failure = failure
        raise OverBounds

    def _too_slow(self) -> None:
        self._timer = None
        if self.url or self._reading:
            seconds = self._bounds.seconds
            detail = f"the headers did not come within {seconds:g} s"
            self._refuse(Failure(code="client_too_slow", detail=detail))
        else:
            self.transport.close()

    def _unset_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, failure: Failure) -> None:
        """Answer and close; an answer that is under way to the same client is the last one."""
        if self.cycle is None or self.cycle.response_complete:
            path = self.url.partition(b"?")[0].decode("latin-1")
            self.transport.write(_answer(failure, path))
        self.transport.close()


def _too_long(detail: str) -> Failure:
    return Failure(code="headers_too_large", detail=detail)


def _answer(failure: Failure, path: str) -> bytes:
    trace_id = mint_trace()
    problem = problem_of(failure, path, trace_id)
    body = orjson.dumps(problem.body)
    headers = problem.headers | {
        "content-type": problem.media_type,
        "content-length": str(len(body)),
        "x-trace-id": trace_id,
        "connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return b"".join((STATUS_LINE[problem.status], lines.encode("latin-1"), b"\r\n", body))
