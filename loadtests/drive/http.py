"""One client's HTTP connection: requests and event streams, with errors as typed ones."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager

import msgspec
from gevent import Timeout
from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPParseError, HTTPSocketPoolResponse

from loadtests.sse import EventReader, ServerEvent
from shared.clock import monotonic
from shared.errors import Permanent, Transient

_OVERLOADED = frozenset({429, 503})
_ERRORS = 400
_JSON = {"Content-Type": "application/json"}


class _Fault(msgspec.Struct):
    """What all error bodies have: problem details say it at the top, OpenAI's inside."""

    code: str = ""
    error: dict[str, object] = msgspec.field(default_factory=dict)


class Http:
    """A keep-alive connection; one request at a time."""

    def __init__(self, url: str, headers: Mapping[str, str], patience: float) -> None:
        self._headers = dict(headers)
        self._patience = patience
        self._client = HTTPClient.from_url(
            url, concurrency=1, connection_timeout=10.0, network_timeout=patience
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def ask(
        self, method: str, path: str, body: object = None, more: Mapping[str, str] | None = None
    ) -> bytes:
        """A request and its whole answer.

        Raises:
            Permanent: `http_status`, `connection`.
            Transient: `refused`.
        """
        with self._request(method, path, body, more) as response:
            found: bytes = response.read()
            if not response.message_complete:
                raise Permanent("connection", "the answer was cut off")
            return found

    def events(
        self, method: str, path: str, body: object = None
    ) -> Generator[tuple[float, ServerEvent]]:
        """A request and the events of its answer, each with the moment at which it came.

        Close it: what is given up in the middle holds a connection and a time-out.

        Raises:
            Permanent: `http_status`, `connection`.
            Transient: `refused`.
        """
        reader = EventReader()
        with self._request(method, path, body, None) as response:
            while line := response.readline(b"\n"):
                event = reader.line(line.decode(errors="replace").rstrip("\r\n"))
                if event is not None:
                    yield monotonic(), event

    @contextmanager
    def _request(
        self, method: str, path: str, body: object, more: Mapping[str, str] | None
    ) -> Iterator[HTTPSocketPoolResponse]:
        headers = self._headers | (_JSON if body is not None else {}) | dict(more or {})
        content = msgspec.json.encode(body) if body is not None else b""
        try:
            with Timeout(self._patience):
                response = self._client.request(method, path, body=content, headers=headers)
                with response:
                    _check_status(response)
                    yield response
        except Timeout as error:
            raise Permanent("connection", "no answer in time") from error
        except (OSError, HTTPParseError) as error:
            raise Permanent("connection", type(error).__name__) from error


def _check_status(response: HTTPSocketPoolResponse) -> None:
    status = response.status_code
    if status < _ERRORS:
        return
    text = f"{status} {_code_in(response.read())}".strip()
    if status in _OVERLOADED:
        raise Transient("refused", text)
    raise Permanent("http_status", text)


def _code_in(body: bytes) -> str:
    try:
        found = msgspec.json.decode(body, type=_Fault)
    except msgspec.MsgspecError:
        return ""
    return found.code or str(found.error.get("code", ""))
