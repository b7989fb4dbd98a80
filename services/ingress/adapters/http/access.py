"""Lets requests in by API key, and says how many: 401, 403, 429.

Plain ASGI, outside of everything that costs: the key is a look-up in memory and one hash. What
follows finds the caller and its account in the scope, of a WebSocket as of a request.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.ingress.adapters.accounts import ACCOUNT, Account, Accounts
from services.ingress.adapters.http.errors import refusal, trace_id_of
from services.ingress.core.access.caller import TENANT_HEADER, Caller
from services.ingress.core.access.keys import (
    KEY_PROTOCOL,
    PROTOCOL,
    PUBLIC,
    Presented,
    authenticate,
    authorize,
)
from services.ingress.core.access.rates import Failures, Throttled
from services.ingress.ports import Ring
from shared.errors import MillraceError, Permanent, Transient

CALLER_KEY = "millrace.caller"
"""Where the caller stands in the scope."""
_AUTHORIZATION, _API_KEY = b"authorization", b"x-api-key"
_TENANT = TENANT_HEADER.lower().encode()
_PRESENTED = frozenset((_AUTHORIZATION, _API_KEY, _TENANT))
_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


class Access:
    """Authentication, authorization and limits around an application."""

    def __init__(self, app: ASGIApp, ring: Ring, accounts: Accounts) -> None:
        self._app, self._ring, self._accounts = app, ring, accounts
        self._failures = Failures()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in PUBLIC:
            await self._app(scope, receive, send)
            return
        try:
            caller = scope[CALLER_KEY] = self._admit(scope)
            account = Account(self._accounts, caller.tenant, caller.key)
            account.begin(streams=_only_streams(scope))
        except MillraceError as error:
            response = refusal(scope, error.as_failure())
            if isinstance(error, Throttled):
                response.headers.update(error.headers)
            await response(scope, receive, send)
            return
        await self._run(scope, receive, send, account)

    async def _run(self, scope: Scope, receive: Receive, send: Send, account: Account) -> None:
        offered = _without_keys(scope)

        async def sending(message: Message) -> None:
            if message["type"] in _STARTS:
                _add(message, account.headers())
            if message["type"] == "websocket.accept" and offered:
                message["subprotocol"] = message.get("subprotocol") or PROTOCOL
            await send(message)

        token = ACCOUNT.set(account)
        try:
            await self._app(scope, receive, sending)
        finally:
            ACCOUNT.reset(token)
            account.end()

    def _admit(self, scope: Scope) -> Caller:
        if not self._ring.trusted():
            raise Transient(
                "keys_unavailable",
                "the API keys cannot be checked while the bus is away",
                retry_after=5,
            )
        presented = _presented(scope)
        times = self._accounts.times
        try:
            key = authenticate(self._ring.keys, presented, times.now())
        except Permanent as error:
            client = scope.get("client")
            address = client[0] if client else ""
            if wait := self._failures.count(address, times.monotonic()):
                raise Transient(
                    "too_many_failures",
                    "too many requests of this address without a valid API key",
                    retry_after=wait,
                ) from error
            raise
        try:
            return authorize(key, scope["path"], presented.tenant, trace_id_of(scope))
        except Permanent:
            scope[CALLER_KEY] = Caller(key.tenant, trace_id_of(scope), key.models, key.id)
            raise


def _only_streams(scope: Scope) -> bool:
    """Whether nothing but a stream can come of it: it is counted as one from the start.

    Where a body says so, its route does (`Account.stream`).
    """
    events = scope["path"].endswith("/events") and scope.get("method") == "GET"
    return scope["type"] == "websocket" or events


def _presented(scope: Scope) -> Presented:
    """What counts of the headers, in one look at them; of two with the same name the first one."""
    found = {
        name: value.decode("latin-1")
        for name, value in reversed(scope["headers"])
        if name in _PRESENTED
    }
    protocols = tuple(scope.get("subprotocols") or ())
    return Presented(found.get(_AUTHORIZATION), found.get(_API_KEY), protocols, found.get(_TENANT))


def _add(message: Message, headers: dict[str, str]) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    message["headers"] = [*(message.get("headers") or ()), *raw]


def _without_keys(scope: Scope) -> bool:
    """Whether a WebSocket offered its key as a protocol; nobody behind us sees it."""
    protocols = list(scope.get("subprotocols") or ())
    kept = [one for one in protocols if not one.startswith(KEY_PROTOCOL)]
    if "subprotocols" in scope:
        scope["subprotocols"] = kept
    return len(kept) < len(protocols)
