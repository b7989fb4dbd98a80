"""Asks agents over HTTP as their users do: streamed chat completions of `agent:<name>`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson

from services.cli.core.place import Place
from shared.errors import MillraceError, Permanent, Transient

_CONNECT, _DELETION = 4.0, 60.0
_OVERLOADED = frozenset({429, 503})


class OverHttp:
    """Tasks over HTTP."""

    name = "http"

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def ask(self, agent: str, question: str, session: str, heard: Callable[[], None]) -> int:
        """See `Way.ask`.

        Raises:
            MillraceError: the error of the answer; `no_ingress`, `stream_cut`.
        """
        body = {
            "model": f"agent:{agent}",
            "messages": [{"role": "user", "content": question}],
            "metadata": {"session": session},
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        tokens = 0
        try:
            async with self._http.stream("POST", "/v1/chat/completions", json=body) as answer:
                if not answer.is_success:
                    raise _refusal(answer.status_code, await answer.aread())
                async for line in answer.aiter_lines():
                    data = line.removeprefix("data:").strip()
                    if data == "[DONE]":
                        return tokens
                    if data and line.startswith("data:"):
                        tokens = _taken(orjson.loads(data), heard) or tokens
        except httpx.ConnectError as error:
            raise Transient("no_ingress", "nothing answers any more") from error
        except (httpx.HTTPError, orjson.JSONDecodeError) as error:
            raise Transient("stream_cut", type(error).__name__) from error
        raise Transient("stream_cut", "the stream ended without its end")

    async def forget(self, session: str) -> None:
        """See `Way.forget`.

        Raises:
            MillraceError: the error of the answer; `no_ingress`.
        """
        try:
            answer = await self._http.delete(
                f"/v1/sessions/{session}", params={"force": "true"}, timeout=_DELETION
            )
        except httpx.HTTPError as error:
            raise Transient("no_ingress", type(error).__name__) from error
        if not answer.is_success:
            raise _refusal(answer.status_code, answer.content)


def _taken(chunk: dict[str, Any], heard: Callable[[], None]) -> int:
    """What is in a chunk: text is heard; the tokens, where it says how many there were.

    Raises:
        Permanent: the error that it brings.
    """
    if chunk.get("error"):
        raise _error_in(chunk, Permanent)
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") or {}
        if delta.get("content") or delta.get("reasoning_content"):
            heard()
    return int((chunk.get("usage") or {}).get("completion_tokens", 0))


def _refusal(status: int, body: bytes) -> MillraceError:
    kind = Transient if status in _OVERLOADED else Permanent
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return kind(f"http_{status}")
    return _error_in(found, kind, f"http_{status}")


def _error_in(
    body: object, kind: type[Permanent] | type[Transient], otherwise: str = "failed"
) -> MillraceError:
    """The error of OpenAI's object or of problem details."""
    found = body if isinstance(body, dict) else {}
    if isinstance(found.get("error"), dict):
        found = found["error"]
    detail = found.get("message") or found.get("detail") or ""
    return kind(str(found.get("code") or otherwise), str(detail))


@asynccontextmanager
async def over_http(place: Place, tenant: str, key: str) -> AsyncIterator[OverHttp]:
    """Connect; without a key in the name of a tenant, which this machine's programs may say.

    Raises:
        Transient: `no_ingress`, `not_ready`.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {"X-Millrace-Tenant": tenant}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    timeout = httpx.Timeout(None, connect=_CONNECT)  # whoever asks knows how long to wait
    async with httpx.AsyncClient(
        base_url=place.url(), headers=headers, limits=limits, timeout=timeout, trust_env=False
    ) as http:
        await _check(http, place.url())
        yield OverHttp(http)


async def _check(http: httpx.AsyncClient, url: str) -> None:
    try:
        answer = await http.get("/readyz", timeout=_CONNECT)
    except httpx.HTTPError as error:
        raise Transient(
            "no_ingress",
            f"nothing answers at {url} (`make run` starts it; MILLRACE_HTTP_HOST and "
            "MILLRACE_HTTP_PORT say where it listens; --over nats goes without)",
        ) from error
    if not answer.is_success:
        raise Transient("not_ready", f"{url} is not ready: `millrace doctor` says why")
