"""What a tenant's own client may read of the streams: its own subjects, page by page.

The knowledge is the log's; nothing is kept here between two questions, and every replica answers
alike. What a question names is checked against the tenant of its subject (`stream_for`).
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

from nats.aio.msg import Msg

from services.sessions.core.asks import fitting
from shared.bus.connect import Bus
from shared.bus.desk import Answer
from shared.bus.log import BEHIND, RunLog, direct_get, last_message, message_at, newest
from shared.contracts.asks import (
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
from shared.contracts.base import SessionRef, check_token
from shared.errors import Permanent, Transient
from shared.subjects import RUNS, owner_in, stream_for

_ROOM = 512 * 1024
"""Bytes of an answer; half of what the server takes where that is less."""
_PLACE = ("Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp")
_OURS = frozenset(
    {*_PLACE, "Nats-Stream", "Nats-Last-Sequence", "Nats-Num-Pending", "Nats-UpTo-Sequence"}
)
"""Headers that the server adds when it is asked."""
_ROUNDS = 8
"""Answers of the server that are looked through for the newest messages of many subjects."""


class Asks:
    """One method per question."""

    def __init__(self, bus: Bus, log: RunLog) -> None:
        self._bus, self._log = bus, log

    def answers(self) -> dict[str, Answer[Any]]:
        """By the last token of their subjects."""
        return {
            "read": Answer(ReadStored, self.read),
            "last": Answer(LastStored, self.last),
            "latest": Answer(LatestStored, self.latest),
            "at": Answer(StoredAt, self.at),
            "piece": Answer(StoredPiece, self.piece),
            "place": Answer(CheckPlace, self.place),
            "sessions": Answer(ListSessions, self.sessions),
        }

    @property
    def _room(self) -> int:
        return min(_ROOM, self._bus.nc.max_payload // 2)

    async def read(self, tenant: str, asked: ReadStored) -> StoredPage:
        """A page of a subject.

        Raises:
            Permanent: `invalid_subject`.
            Transient: `bus_unavailable`.
        """
        stream = stream_for(tenant, asked.subject)
        messages, more = await self._behind(stream, asked)
        rows = fitting(map(_row, messages), self._room)
        if more or len(rows) < len(messages):
            return StoredPage(messages=tuple(rows), next=rows[-1].sequence if rows else None)
        return StoredPage(messages=tuple(rows))

    async def _behind(self, stream: str, asked: ReadStored) -> tuple[list[Msg], bool]:
        """What is stored behind a place, none missing: the server that answers a direct get may be

        a moment behind its cluster, and who is told that this is all listens from there on.
        """
        wanted = 0
        if stream == RUNS and self._bus.replicas > 1:
            wanted = await newest(self._bus, asked.subject)
        query = {
            "batch": asked.limit,
            "max_bytes": self._room,
            "seq": asked.after + 1,
            "next_by_subj": asked.subject,
        }
        for pause in BEHIND:
            messages, more = await self._got(stream, query)
            upto = _sequence(messages[-1]) if messages else asked.after
            if more or upto >= wanted:
                return messages, more
            await asyncio.sleep(pause)
        raise Transient("bus_unavailable", "the server asked is far behind its cluster")

    async def _got(self, stream: str, query: Mapping[str, Any]) -> tuple[list[Msg], bool]:
        return await direct_get(self._bus, f"$JS.API.DIRECT.GET.{stream}", query)

    async def last(self, tenant: str, asked: LastStored) -> StoredPage:
        """The newest message on a subject.

        Raises:
            Permanent: `invalid_subject`.
            Transient: `bus_unavailable`.
        """
        stream = stream_for(tenant, asked.subject)
        return self._one(await last_message(self._bus, stream, asked.subject))

    async def at(self, tenant: str, asked: StoredAt) -> StoredPage:
        """The message at a place of the log.

        Raises:
            Transient: `bus_unavailable`.
        """
        message = await message_at(self._bus, RUNS, asked.sequence) if asked.sequence else None
        owner = None if message is None else owner_in(_headers(message)["Nats-Subject"])
        return self._one(message if owner is not None and owner.tenant == tenant else None)

    def _one(self, message: Msg | None) -> StoredPage:
        rows = [] if message is None else fitting([_row(message)], self._room)
        return StoredPage(messages=tuple(rows))

    async def latest(self, tenant: str, asked: LatestStored) -> StoredPage:
        """The newest messages of subjects of the log.

        Raises:
            Permanent: `invalid_subject`.
            Transient: `bus_unavailable`; `too_much` where there are too many to look through.
        """
        for subject in asked.subjects:
            if stream_for(tenant, subject) != RUNS:
                raise Permanent(
                    "invalid_subject", f"{subject[:80]!r} is none of the log", field="subjects"
                )
        query: dict[str, Any] = {
            "multi_last": asked.subjects,
            "max_bytes": self._room,
            "batch": 1000,
        }
        if asked.upto:
            query["up_to_seq"] = asked.upto
        newest_first: list[StoredMessage] = []
        for _ in range(_ROUNDS):
            messages, more = await self._got(RUNS, query)
            rows = [*reversed([_row(message) for message in messages]), *newest_first]
            newest_first = fitting(rows, self._room)
            if not more or not messages:
                return StoredPage(messages=tuple(reversed(newest_first)))
            query["seq"] = _sequence(messages[-1]) + 1
        raise Transient("too_much", "too many subjects are covered: ask for fewer")

    async def piece(self, tenant: str, asked: StoredPiece) -> PieceReply:
        """A piece of a body.

        Raises:
            Permanent: `invalid_subject`, `unknown_message`.
            Transient: `bus_unavailable`.
        """
        stream = stream_for(tenant, asked.subject)
        message = await message_at(self._bus, stream, asked.sequence) if asked.sequence else None
        if message is None or _headers(message)["Nats-Subject"] != asked.subject:
            detail = f"there is no message {asked.sequence} on {asked.subject[:80]!r}"
            raise Permanent("unknown_message", detail, field="sequence")
        data = message.data[asked.start : asked.start + self._room]
        return PieceReply(data=data, size=len(message.data))

    async def place(self, tenant: str, asked: CheckPlace) -> Answered:
        """Whether one can go on from a sequence of a session.

        Raises:
            Permanent: `invalid_cursor`, `invalid_name`.
            Transient: `bus_unavailable`.
        """
        ref = SessionRef(tenant, check_token(asked.session, "session"))
        await self._log.check_place(ref, asked.sequence)
        return Answered()

    async def sessions(self, tenant: str, asked: ListSessions) -> SessionsPage:
        """Names of sessions.

        Raises:
            Transient: `bus_unavailable`.
        """
        names = await self._log.sessions(tenant)
        start = bisect_right(names, asked.after)
        page = names[start : start + asked.limit]
        following = page[-1] if start + asked.limit < len(names) else None
        return SessionsPage(sessions=tuple(page), next=following)


def _headers(message: Msg) -> dict[str, str]:
    return message.headers or {}


def _sequence(message: Msg) -> int:
    return int(_headers(message)["Nats-Sequence"])


def _row(message: Msg) -> StoredMessage:
    headers, text, raw = _headers(message), "", b""
    try:
        text = message.data.decode()
    except UnicodeDecodeError:
        raw = message.data
    return StoredMessage(
        subject=headers["Nats-Subject"],
        sequence=_sequence(message),
        time=headers["Nats-Time-Stamp"],
        headers={name: value for name, value in headers.items() if name not in _OURS},
        size=len(message.data),
        text=text,
        raw=raw,
    )
