"""Owns the tools that every agent may be given, as typed functions over the ports."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta

from services.tools.core.calculator import calculate
from services.tools.core.notes import NOTHING, SAVED, note_key, note_value
from services.tools.core.passages import render
from services.tools.core.registry import Tool, ToolContext, as_tool
from services.tools.ports import Knowledge, Memory
from shared.contracts.base import SessionRef
from shared.contracts.retrieval import SearchRequest
from shared.errors import Permanent

RESULTS = 3


class Builtin:
    """The built-in tools; `tools()` lists them. `now` is a clock that gives aware datetimes."""

    def __init__(
        self,
        knowledge: Knowledge,
        memory: Memory,
        now: Callable[[], datetime],
        min_score: float,
    ) -> None:
        self._knowledge, self._memory = knowledge, memory
        self._now, self._min_score = now, min_score

    def tools(self) -> list[Tool]:
        """All of them, with their bounds."""
        return [
            as_tool(self.calculator, timeout=2.0),
            as_tool(self.current_time, timeout=2.0),
            as_tool(self.remember, timeout=5.0),
            as_tool(self.recall, timeout=5.0),
            as_tool(self.search_knowledge, timeout=10.0),
        ]

    async def calculator(
        self,
        expression: Annotated[str, Meta(description="for example (17 + 4) * 23")],
    ) -> str:
        """Evaluate an arithmetic expression"""
        return calculate(expression)

    async def search_knowledge(
        self,
        context: ToolContext,
        query: Annotated[str, Meta(description="the question to answer, as it was asked")],
    ) -> str:
        """Search the knowledge base for passages; in each, the best sentence is in **bold**"""
        request = SearchRequest(
            tenant=context.tenant,
            collection=context.collection,
            query=query,
            limit=RESULTS,
            min_score=self._min_score,
            highlight=True,
        )
        with context.legs.leg("retrieval") as figures:
            figures["collection"] = context.collection
            passages = await self._knowledge.search(request)
            figures["passages"] = len(passages)
        return render(passages)

    async def current_time(
        self,
        timezone: Annotated[str, Meta(description="an IANA name, such as Europe/Paris")] = "UTC",
    ) -> str:
        """Current date and time in a timezone"""
        try:
            zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise Permanent(
                "unknown_timezone", f'unknown timezone "{timezone[:64]}"', field="timezone"
            ) from error
        return f"{self._now().astimezone(zone):%Y-%m-%d %H:%M %A} ({timezone})"

    async def remember(self, context: ToolContext, key: str, value: str) -> str:
        """Store a fact for this session"""
        ref = SessionRef(context.tenant, context.session)
        await self._memory.put(ref, note_key(key), note_value(value))
        return SAVED

    async def recall(self, context: ToolContext, key: str) -> str:
        """Look up a fact that was stored in this session"""
        ref = SessionRef(context.tenant, context.session)
        return await self._memory.get(ref, note_key(key)) or NOTHING
