"""Reads what is stored as a tenant's own client: by questions that a service answers.

Such a client reaches no stream (decision record 0040). What the rest of `shared.bus` asks the
server, a direct get, is asked of `ask.<tenant>.<what>` here and answered in the same form, so that
log, feed and documents are read by the same code, with the same results (decision record 0050).
"""

from __future__ import annotations

import asyncio

import orjson
from nats.aio.msg import Msg

from shared.bus.claims import LIMIT
from shared.bus.connect import Bus
from shared.bus.log import RunLog
from shared.contracts.asks import (
    MOST_AT_ONCE,
    Answered,
    CheckPlace,
    LastStored,
    LatestStored,
    ListSessions,
    PieceReply,
    ReadStored,
    SessionsPage,
    StoredAt,
    StoredMessage,
    StoredPage,
    StoredPiece,
)
from shared.contracts.base import Message, SessionRef, decode, encode
from shared.errors import Failure, Permanent, Transient, error_of
from shared.subjects import BLOBS, DOCS, RUNS, TOKENS, ask_subject

_DIRECT = "$JS.API.DIRECT.GET."
_READABLE = frozenset({RUNS, TOKENS, DOCS, BLOBS})
_OPEN = ("tasks", "control", "ask")
_AT_ONCE = 8
"""Questions under way: fewer than one tenant may have in line."""
_PATIENCE, _TRIES = 15.0, 20
_MOVED = 5
"""Looks for the newest message of a subject whose body is replaced while it is read."""
_ELSEWHERE = {
    "docs": "PUT or DELETE /v1/collections/{collection}/documents/{id}",
    "timer": "/v1/schedules/{name}",
    "TIMERS": "/v1/schedules",
    "dead": "/v1/dead",
    "retried": "/v1/dead/{letter}/retry",
    "DEAD": "/v1/dead",
    "direct": "POST /v1/chat/completions",
    "KV_agents": "/v1/models",
    "KV_workers": "/v1/models",
    "ledger": "/v1/usage",
}
"""What HTTP has of it, by the first token of a subject or by the stream."""


class Asking:
    """The reader of one tenant's client."""

    def __init__(self, bus: Bus, tenant: str) -> None:
        self._bus, self._tenant = bus, tenant
        self._turn = asyncio.Semaphore(_AT_ONCE)

    def check(self, subject: str) -> None:
        """Let through what a tenant's client may send.

        Raises:
            Permanent: `payload_too_large` for a part of a large body; `not_over_nats`.
        """
        kind, _, rest = subject.partition(".")
        if kind == "blob":
            raise Permanent(
                "payload_too_large",
                f"more than {LIMIT} bytes are not taken from a tenant's own client of the bus; "
                "HTTP takes them (POST /v1/tasks)",
            )
        if kind not in _OPEN or rest.partition(".")[0] != self._tenant:
            raise _not_here(kind, subject)

    async def ask[A: Message](self, what: str, question: Message, kind: type[A]) -> A:
        """One question; where too many are asked at once it is asked again.

        Raises:
            Transient: `no_responders` while no service answers, `request_timeout`, `busy`.
            Permanent: why it cannot be answered.
        """
        subject, body = ask_subject(self._tenant, what), encode(question)
        left = _TRIES
        async with self._turn:
            while True:
                reply = decode(await self._bus.request(subject, body, _PATIENCE), kind)
                failure: Failure | None = getattr(reply, "error", None)
                if failure is None:
                    return reply
                left -= 1
                if failure.code != "busy" or not left:
                    raise error_of(failure)
                await asyncio.sleep(failure.retry_after or 0.5)

    async def one(self, api: str, query: bytes) -> Msg:
        """A stored message, or a status that says that there is none."""
        stream, wanted = _stream_of(api), orjson.loads(query)
        what: str
        asked: Message
        match wanted:
            case {"last_by_subj": str(subject)}:
                what, asked = "last", LastStored(subject=subject)
            case {"next_by_subj": str(subject), "seq": int(seq)}:
                what, asked = "read", ReadStored(subject=subject, after=seq - 1, limit=1)
            case {"seq": int(seq)} if stream == RUNS:
                what, asked = "at", StoredAt(sequence=seq)
            case _:
                raise _not_here(stream, api)
        for _ in range(_MOVED):
            page = await self.ask(what, asked, StoredPage)
            if not page.messages:
                break
            if (message := await self._message(page.messages[0])) is not None:
                return message
        return self._status("404")

    async def many(self, api: str, query: bytes) -> list[Msg]:
        """Stored messages, and a status behind them that says whether there are more."""
        stream, wanted = _stream_of(api), orjson.loads(query)
        match wanted:
            case {"next_by_subj": str(subject), "seq": int(seq), "batch": int(most)}:
                return await self._read(subject, seq - 1, most)
            case {"multi_last": [*subjects]} if stream == RUNS:
                asked = LatestStored(subjects=tuple(subjects), upto=wanted.get("up_to_seq", 0))
                page = await self.ask("latest", asked, StoredPage)
                found = [await self._message(row) for row in page.messages]
                return [*(one for one in found if one is not None), self._status("204")]
        raise _not_here(stream, api)

    async def _read(self, subject: str, after: int, most: int) -> list[Msg]:
        found: list[Msg] = []
        following: int | None = after
        while following is not None and len(found) < most:
            limit = min(most - len(found), MOST_AT_ONCE)
            asked = ReadStored(subject=subject, after=following, limit=limit)
            page = await self.ask("read", asked, StoredPage)
            following = page.next
            for row in page.messages:
                message = await self._message(row)
                if message is None:
                    following = row.sequence  # it may have come again, behind what was the end
                    break
                found.append(message)
        more = "0" if following is None else "1"
        return [*found, self._status("204" if found else "404", {"Nats-Num-Pending": more})]

    def _status(self, code: str, headers: dict[str, str] | None = None) -> Msg:
        return Msg(self._bus.nc, headers={"Status": code, **(headers or {})})

    async def _message(self, row: StoredMessage) -> Msg | None:
        """As a direct get tells of it; None where it was removed or replaced meanwhile."""
        body = row.body
        if row.size != len(body):
            try:
                body = await self._whole(row)
            except Permanent as error:
                if error.code == "unknown_message":
                    return None
                raise
        place = {
            "Nats-Subject": row.subject,
            "Nats-Sequence": str(row.sequence),
            "Nats-Time-Stamp": row.time,
        }
        return Msg(self._bus.nc, subject=row.subject, data=body, headers={**row.headers, **place})

    async def _whole(self, row: StoredMessage) -> bytes:
        parts: list[bytes] = []
        start = 0
        while start < row.size:
            asked = StoredPiece(subject=row.subject, sequence=row.sequence, start=start)
            piece = await self.ask("piece", asked, PieceReply)
            if not piece.data:
                raise Transient("bus_unavailable", "a body ended before its end")
            parts.append(piece.data)
            start += len(piece.data)
        return b"".join(parts)


class AskedLog(RunLog):
    """The log, as a tenant's client asks for it."""

    def __init__(self, bus: Bus, asking: Asking) -> None:
        super().__init__(bus)
        self._asking = asking

    async def check_place(self, ref: SessionRef, seq: int) -> None:
        """See `RunLog.check_place`."""
        if seq:
            asked = CheckPlace(session=ref.session, sequence=seq)
            await self._asking.ask("place", asked, Answered)

    async def sessions(self, tenant: str) -> list[str]:
        """See `RunLog.sessions`."""
        found: list[str] = []
        following: str | None = ""
        while following is not None:
            asked = ListSessions(after=following)
            page = await self._asking.ask("sessions", asked, SessionsPage)
            found += page.sessions
            following = page.next
        return found

    async def _newest(self, subject: str) -> int:
        """Who answers has looked how far the cluster has come."""
        return 0


def log_of(bus: Bus) -> RunLog:
    """The log as this connection can read it."""
    tenant = bus.login.tenant
    if not tenant:
        return RunLog(bus)
    asking = Asking(bus, tenant)
    bus.reader = asking
    return AskedLog(bus, asking)


def _stream_of(api: str) -> str:
    stream = api.removeprefix(_DIRECT)
    if stream not in _READABLE:
        raise _not_here(stream, api)
    return stream


def _not_here(what: str, subject: str) -> Permanent:
    route = _ELSEWHERE.get(what)
    instead = f"HTTP has it: {route}" if route else "ask whoever runs the system"
    return Permanent(
        "not_over_nats", f"{subject[:120]!r} is not for a tenant's own client of the bus; {instead}"
    )
