"""Answers `replay.<tenant>.<session>`: a page of a log beside what is decided now."""

from __future__ import annotations

import asyncio
from bisect import bisect_right

import msgspec
from nats.aio.msg import Msg

from services.sessions.core.replay import Replay
from services.sessions.ports import FactReader
from shared.bus.connect import Bus
from shared.bus.consume import attempt
from shared.contracts.base import SessionRef, check_token, decode, encode
from shared.contracts.replay import ReplayQuery, ReplayReply, ReplayRow
from shared.errors import Failure, Permanent

_AT_ONCE = 25
"""Facts that are decided in one go; then the loops of other sessions have their turn."""


class Replays:
    """The requests; replicas share them. Nothing is kept between two pages."""

    def __init__(self, bus: Bus, log: FactReader) -> None:
        self._bus, self._log = bus, log

    async def start(self) -> None:
        """Subscribe."""
        await self._bus.nc.subscribe("replay.*.*", queue="sessions", cb=self._on_request)

    async def _on_request(self, message: Msg) -> None:
        reply = await attempt(lambda: self._handle(message), self._bus.log)
        if isinstance(reply, Failure):
            reply = ReplayReply(error=reply)
        if not message.reply:
            return
        try:
            await self._bus.send(message.reply, encode(reply))
        except Permanent as error:  # a state with a long input in it, for example
            await self._bus.send(message.reply, encode(ReplayReply(error=error.as_failure())))

    async def _handle(self, message: Msg) -> ReplayReply:
        _, tenant, session = message.subject.split(".")
        ref = SessionRef(check_token(tenant, "tenant"), check_token(session, "session"))
        return await answer(self._log, ref, decode(message.data, ReplayQuery))


async def answer(log: FactReader, ref: SessionRef, query: ReplayQuery) -> ReplayReply:
    """The page that a query asks for.

    Raises:
        Permanent: `unknown_session`.
        Transient: the log cannot be reached.
    """
    facts = [stored for stored in await log.read(ref) if stored.kind != "completed"]
    if not facts:
        raise Permanent("unknown_session", f"there is no session {ref.session!r}", field="session")
    replay = Replay(facts)
    sequences = [stored.seq for stored in facts]
    if query.at:
        return await _at(replay, bisect_right(sequences, query.at))
    start = bisect_right(sequences, query.after)
    end = min(len(facts), start + query.limit)
    await _fold(replay, start)
    rows: list[ReplayRow] = []
    for n in range(start, end):
        if not query.differences or not replay.explains(n):
            rows.append(replay.row(n))
        if n % _AT_ONCE == 0:
            await asyncio.sleep(0)
    following = sequences[end - 1] if end < len(facts) else None
    return ReplayReply(rows=tuple(rows), facts=end - start, next=following)


async def _at(replay: Replay, n: int) -> ReplayReply:
    """One place: its fact, the state behind it, and all that is due there."""
    if n == 0:
        first = replay.facts[0].seq
        raise Permanent("invalid_sequence", f"the session begins at {first}", field="at")
    await _fold(replay, n)
    row = msgspec.structs.replace(replay.row(n - 1), due=replay.due(n))
    state: dict[str, object] = msgspec.to_builtins(replay.state(n))
    return ReplayReply(rows=(row,), facts=1, state=state)


async def _fold(replay: Replay, n: int) -> None:
    for known in range(0, n, _AT_ONCE):
        replay.state(known)
        await asyncio.sleep(0)
