"""Tells of requests that came to nothing, whose tenant is known (`core.access.refusals`)."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import Scope

from services.ingress.adapters.http.errors import CODE_KEY, trace_id_of
from services.ingress.adapters.http.request import known_caller
from services.ingress.adapters.http.transport import CLIENT_GONE
from services.ingress.core.access.keys import family_of
from services.ingress.core.access.refusals import Kind
from services.ingress.core.http.problems import status_of
from shared.errors import Failure

Note = Callable[[Kind, str], None]
RECORDING_KEY = "millrace.recording"
"""Where it is left in the scope, for sockets."""
UNMATCHED = "unmatched"
_NOBODYS = frozenset({"foreign_host", "foreign_origin"})


def route_of(scope: Scope) -> str:
    """The template of a request's path, once somebody has looked for it."""
    return str(getattr(scope.get("route"), "path", UNMATCHED))


class Recording:
    """Judges a request by its end. `open_` is whether callers are taken at their word."""

    def __init__(self, note: Note, *, open_: bool) -> None:
        self._note, self._open = note, open_

    def frame(self, scope: Scope, failure: Failure) -> None:
        """A frame of a socket was refused; the socket goes on."""
        scope[CODE_KEY] = failure.code
        self.ended(scope, route_of(scope), status_of(failure))

    def ended(self, scope: Scope, route: str, status: int) -> None:
        """A request has failed, and nobody else writes that down.

        What cannot be anybody's is not recorded: there was no key, or a web page was behind it.
        """
        caller = known_caller(scope, open_=self._open)
        code = "client_gone" if status == CLIENT_GONE else str(scope.get(CODE_KEY, ""))
        if caller is None or not code or code in _NOBODYS:
            return
        if route == UNMATCHED:  # or refused before anybody looked for a route
            route = family_of(scope["path"]) or UNMATCHED
        what = f"{scope.get('method', 'WS')} {route}"
        self._note(Kind(caller.tenant, code, status, what, caller.key), trace_id_of(scope))
