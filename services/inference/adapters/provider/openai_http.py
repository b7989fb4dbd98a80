"""Owns what OpenAI's client is given to speak HTTP with, so that connections outlive answers.

That client closes a stream at its last event, before the body's own end is read, and with it the
connection: each completion would pay for a new one. What is left behind the last event is read in
here. An answer that somebody ends before is closed as it is, which is how its endpoint learns of
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx

from services.inference.adapters.provider.connections import over_a_live_one

_BROKEN = (httpx.RemoteProtocolError, httpx.ReadError)
_LAST, _TAIL = b"[DONE]", 16
_MOMENT = 0.05
"""Seconds for the end behind the last event; most servers send both at once."""


class Http(httpx.AsyncClient):
    """Knows that a kept connection may have ended, and keeps those that have not."""

    async def send(self, request: httpx.Request, **how: Any) -> httpx.Response:  # noqa: ANN401 - as inherited
        """See the library."""
        answer = await over_a_live_one(
            lambda: super(Http, self).send(request, **how), request, _BROKEN
        )
        if how.get("stream") and isinstance(answer.stream, httpx.AsyncByteStream):
            answer.stream = _ToTheEnd(answer.stream)
        return answer


class _ToTheEnd(httpx.AsyncByteStream):
    """A body that is read to its end when it is closed behind the last event."""

    def __init__(self, body: httpx.AsyncByteStream) -> None:
        self._body, self._parts = body, aiter(body)
        self._tail = b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._parts:
            self._tail = (self._tail + part)[-_TAIL:]
            yield part

    async def aclose(self) -> None:
        if self._tail.rstrip().endswith(_LAST):
            with suppress(TimeoutError, httpx.HTTPError):
                async with asyncio.timeout(_MOMENT):
                    async for _ in self._parts:
                        pass
        await self._body.aclose()
