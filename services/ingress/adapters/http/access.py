"""Lets requests in by API key, and says how many: 401, 403, 429.

Plain ASGI, outside of everything that costs: the key is a look-up in memory and one hash. What
follows finds the caller in the scope, of a WebSocket as of a request.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.ingress.adapters.http.errors import refusal, trace_id_of
from services.ingress.adapters.metered import CHARGE
from services.ingress.core.access.caller import TENANT_HEADER, Caller
from services.ingress.core.access.keys import (
    KEY_PROTOCOL,
    PROTOCOL,
    PUBLIC,
    Presented,
    authenticate,
    authorize,
)
from services.ingress.core.access.rates import (
    Failures,
    Limited,
    Usage,
    headers_of,
    merged,
    objection,
    share,
)
from services.ingress.ports import Ring
from shared.clock import monotonic, now
from shared.contracts.keys import Allowance, ApiKey
from shared.errors import MillraceError, Permanent, Transient

CALLER_KEY = "millrace.caller"
"""Where the caller stands in the scope."""
_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


@dataclass(frozen=True, slots=True)
class Times:
    """The two clocks."""

    now: Callable[[], float] = now
    monotonic: Callable[[], float] = monotonic


class Access:
    """Authentication, authorization and rates around an application."""

    def __init__(
        self, app: ASGIApp, ring: Ring, defaults: Allowance, times: Times | None = None
    ) -> None:
        self._app, self._ring, self._defaults = app, ring, defaults
        self._times = times or Times()
        self._failures = Failures()
        self._tenants: dict[str, Usage] = {}
        self._keys: dict[str, Usage] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in PUBLIC:
            await self._app(scope, receive, send)
            return
        try:
            key, caller = self._admit(scope)
            used = self._used(key, caller)
            self._begin(used)
        except MillraceError as error:
            response = refusal(scope, error.as_failure())
            if isinstance(error, Throttled):
                response.headers.update(error.headers)
            await response(scope, receive, send)
            return
        await self._run(scope, receive, send, (caller, used))

    async def _run(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        who: tuple[Caller, list[tuple[Usage, Allowance]]],
    ) -> None:
        caller, used = who
        scope[CALLER_KEY] = caller
        offered = _without_keys(scope)

        async def sending(message: Message) -> None:
            if message["type"] in _STARTS:
                _add(message, self._headers(used))
            if message["type"] == "websocket.accept" and offered:
                message["subprotocol"] = message.get("subprotocol") or PROTOCOL
            await send(message)

        token = CHARGE.set(lambda tokens: self._charge(used, tokens))
        try:
            await self._app(scope, receive, sending)
        finally:
            CHARGE.reset(token)
            for usage, _ in used:
                usage.running -= 1

    def _admit(self, scope: Scope) -> tuple[ApiKey, Caller]:
        if not self._ring.trusted():
            raise Transient(
                "keys_unavailable",
                "the API keys cannot be checked while the bus is away",
                retry_after=5,
            )
        headers = Headers(scope=scope)
        protocols = scope.get("subprotocols") or ()
        presented = Presented(
            headers.get("authorization"),
            headers.get("x-api-key"),
            tuple(protocols),
            headers.get(TENANT_HEADER),
        )
        try:
            key = authenticate(self._ring.keys, presented, self._times.now())
        except Permanent as error:
            client = scope.get("client")
            address = client[0] if client else ""
            if wait := self._failures.count(address, self._times.monotonic()):
                raise Transient(
                    "too_many_failures",
                    "too many requests of this address without a valid API key",
                    retry_after=wait,
                ) from error
            raise
        return key, authorize(key, scope["path"], presented.tenant, trace_id_of(scope))

    def _used(self, key: ApiKey, caller: Caller) -> list[tuple[Usage, Allowance]]:
        """What the tenant may, and the key where it has bounds of its own; both must have room."""
        special = self._ring.allowances.get(caller.tenant, Allowance())
        tenant = self._tenants.setdefault(caller.tenant, Usage())
        found = [(tenant, merged(special, self._defaults))]
        if key.allowance != Allowance():
            found.append((self._keys.setdefault(key.id, Usage()), merged(key.allowance)))
        return found

    def _begin(self, used: list[tuple[Usage, Allowance]]) -> None:
        moment, replicas = self._times.monotonic(), self._ring.replicas
        for usage, allowed in used:
            if (why := objection(usage, allowed, replicas, moment)) is not None:
                raise Throttled(why, self._headers(used))
        for usage, allowed in used:
            usage.running += 1
            if limit := allowed.requests_per_minute:
                usage.requests.take(share(limit, replicas), moment)

    def _charge(self, used: list[tuple[Usage, Allowance]], tokens: int) -> None:
        for usage, allowed in used:
            if limit := allowed.tokens_per_minute:
                part = share(limit, self._ring.replicas)
                usage.tokens.take(part, self._times.monotonic(), tokens)

    def _headers(self, used: list[tuple[Usage, Allowance]]) -> dict[str, str]:
        moment, found = self._times.monotonic(), {}
        for usage, allowed in used:
            found.update(headers_of(usage, allowed, self._ring.replicas, moment))
        return found


class Throttled(Transient):
    """Not now, but later."""

    def __init__(self, why: Limited, headers: dict[str, str]) -> None:
        unit = "at the same time" if why.what == "concurrency" else "per minute"
        words = "requests" if why.what == "concurrency" else why.what
        super().__init__(
            "rate_limited",
            f"the limit of {why.limit} {words} {unit} is used up; "
            f"try again in {math.ceil(why.wait)} s",
            retry_after=why.wait,
        )
        self.headers = headers


def _add(message: Message, headers: dict[str, str]) -> None:
    found = MutableHeaders(raw=list(message.get("headers") or ()))
    found.update(headers)
    message["headers"] = found.raw


def _without_keys(scope: Scope) -> bool:
    """Whether a WebSocket offered its key as a protocol; nobody behind us sees it."""
    protocols = list(scope.get("subprotocols") or ())
    kept = [one for one in protocols if not one.startswith(KEY_PROTOCOL)]
    if "subprotocols" in scope:
        scope["subprotocols"] = kept
    return len(kept) < len(protocols)
