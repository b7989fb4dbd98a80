"""The client's side of replay: the log of a session beside what the present code decides."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from shared.bus.connect import Bus
from shared.contracts.base import SessionRef
from shared.contracts.replay import Check, ReplayQuery, ReplayReply, ReplayRow
from shared.documents import ask
from shared.subjects import replay_subject

_PAGE, _SCAN = 200, 2000


async def replay_page(bus: Bus, ref: SessionRef, query: ReplayQuery) -> ReplayReply:
    """One answer of the sessions service.

    Raises:
        Transient: `no_responders` while no sessions service runs.
        Permanent: `unknown_session`.
    """
    return await ask(bus, replay_subject(ref), query, ReplayReply)


async def replay_rows(bus: Bus, ref: SessionRef) -> AsyncGenerator[ReplayRow]:
    """The whole log, fact by fact."""
    after: int | None = 0
    while after is not None:
        page = await replay_page(bus, ref, ReplayQuery(after=after, limit=_PAGE))
        for row in page.rows:
            yield row
        after = page.next


async def check_session(bus: Bus, ref: SessionRef) -> Check:
    """Compare every decision with what the log shows, up to the first difference."""
    after: int | None = 0
    facts = 0
    while after is not None:
        query = ReplayQuery(after=after, limit=_SCAN, differences=True)
        page = await replay_page(bus, ref, query)
        facts += page.facts
        if page.rows:
            return Check(facts, page.rows[0])
        after = page.next
    return Check(facts)
