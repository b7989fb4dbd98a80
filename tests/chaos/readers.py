"""Readers of tasks: over SSE and over the typed client, cut off at random, resumed by last id."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import httpx
import nats.errors
import orjson

from shared.client import Millrace
from shared.contracts.facts import Done
from shared.contracts.log import Event
from shared.contracts.tokens import TokenDelta
from shared.errors import MillraceError
from tests.chaos.evidence import Reading, Seen, Submission
from tests.chaos.load import TENANT_HEADER, Plan

_STALL, _STALLS = 7.0, 2
"""Seconds for which a reader stops reading, and how often."""
Source = Callable[[str], AsyncGenerator[Seen]]


def seen_of_event(event: Event) -> Seen:
    """An event of the typed client."""
    seq = int(event.id.partition(":")[0])
    if isinstance(event.data, TokenDelta):
        one = event.data
        return Seen(event.id, "delta", seq, one.step, one.attempt, one.index, one.text)
    return Seen(event.id, event.kind, seq)


def seen_of_frame(id: str, kind: str, data: bytes) -> Seen:
    """A server-sent event."""
    seq = int(id.partition(":")[0])
    if kind != "delta":
        return Seen(id, kind, seq)
    body = orjson.loads(data)
    return Seen(id, kind, seq, body["step"], body["attempt"], body["index"], body["text"])


class Reader:
    """Reads a task to its end, over as many connections as it takes."""

    def __init__(self, plan: Plan, source: Source, seed: str) -> None:
        self.reading = Reading(plan.submission, plan.read_by or "")
        self._source = source
        self._stalls = _STALLS if plan.stalls else 0
        self._chosen = random.Random(seed)

    async def read(self) -> None:
        """Until the end of the task; whoever started it ends it otherwise."""
        while not self.reading.ended:
            self.reading.connections += 1
            with contextlib.suppress(MillraceError, nats.errors.Error, httpx.HTTPError):
                await self._connection(self._chosen.choice((3, 10, 40, 1000)))
            if not self.reading.ended:
                await asyncio.sleep(self._chosen.uniform(0.0, 0.6))

    async def _connection(self, most: int) -> None:
        """One connection, cut by us after so many events."""
        events = self.reading.events
        after = events[-1].id if events else ""
        async with aclosing(self._source(after)) as source:
            async for one in source:
                events.append(one)
                self.reading.ended = one.kind == "done"
                most -= 1
                if self.reading.ended or most <= 0:
                    return
                if self._stalls and self._chosen.random() < 0.05:
                    self._stalls -= 1
                    await asyncio.sleep(_STALL)


def feed_source(client: Millrace, one: Submission) -> Source:
    """Over the typed client."""

    async def events(after: str) -> AsyncGenerator[Seen]:
        task = client.for_tenant(one.ref.tenant).task(one.task, one.ref.session)
        async with aclosing(task.events(after)) as found:
            async for event in found:
                yield seen_of_event(event)
                if isinstance(event.data, Done):
                    return

    return events


def sse_source(http: httpx.AsyncClient, url: Callable[[], str], one: Submission) -> Source:
    """Over HTTP; every connection may lead to another replica."""

    async def events(after: str) -> AsyncGenerator[Seen]:
        path = f"{url()}/v1/tasks/{one.task}/events?session={one.ref.session}"
        headers = {TENANT_HEADER: one.ref.tenant}
        if after:
            headers["Last-Event-ID"] = after
        async with http.stream("GET", path, headers=headers, timeout=30) as answer:
            if answer.status_code != 200:
                return
            fields: dict[str, str] = {}
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if line:
                    fields[name] = value
                    continue
                if "id" in fields:
                    yield seen_of_frame(fields["id"], fields["event"], fields["data"].encode())
                fields = {}

    return events
