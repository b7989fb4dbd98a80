"""Counts what stateless work uses for whoever asked, wherever the answer is made.

What durable work uses is heard from the log (`spending`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from services.ingress.adapters.accounts import ACCOUNT, Account, check_account
from services.ingress.adapters.bus import BusDocuments
from services.ingress.adapters.records import JOURNAL, Journal
from services.ingress.ports import Completions
from shared.contracts.retrieval import EmbedReply
from shared.contracts.tokens import DirectEvent
from shared.contracts.work import DirectRequest
from shared.errors import Transient


class Metered:
    """Port `Completions` over another one."""

    def __init__(self, completions: Completions) -> None:
        self._completions = completions

    def complete(self, request: DirectRequest) -> AsyncGenerator[DirectEvent]:
        """The other one's events.

        Raises:
            Throttled, Transient: what the caller may not cause now.
        """
        account = ACCOUNT.get()
        if request.count_only:  # who only counts is charged nothing
            return self._completions.complete(request)
        if account is not None:
            account.check()
        return _watched(self._completions.complete(request), account, JOURNAL.get() or Journal())


async def _watched(
    events: AsyncGenerator[DirectEvent], account: Account | None, journal: Journal
) -> AsyncGenerator[DirectEvent]:
    """Once it is sent, its worker writes down its end, unless the router finds none."""
    async with aclosing(events):
        journal.handed = True
        try:
            async for event in events:
                if event.done is not None and account is not None:
                    account.charge(event.done.usage.input + event.done.usage.output)
                if event.error is not None:
                    journal.handed = event.recorded or event.done is not None
                yield event
        except Transient:
            journal.handed = False
            raise


class MeteredDocuments(BusDocuments):
    """Port `Documents`, whose embeddings are counted."""

    async def embed(self, texts: tuple[str, ...]) -> EmbedReply:
        """See `BusDocuments.embed`.

        Raises:
            Throttled, Transient: what the caller may not cause now.
        """
        check_account()
        reply = await super().embed(texts)
        account = ACCOUNT.get()
        if account is not None:
            account.charge(reply.tokens)
        return reply
