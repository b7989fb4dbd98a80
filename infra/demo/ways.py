"""The ways in: a task over plain NATS, over HTTP, through the OpenAI client, through ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import nats
import nats.errors
import openai
import orjson

from infra.demo.cases import Case
from shared.client import Millrace
from shared.errors import Permanent
from shared.settings import Address

_AHEAD = 4
"""Tasks in front of the one that is cancelled, so that it surely still waits."""


class Ways:
    """Submits a case in its way; the OpenAI client also waits for the answer."""

    def __init__(self, http: httpx.AsyncClient, millrace: Millrace, address: Address) -> None:
        self._http = http
        self._millrace = millrace
        self._address = address

    async def submit(self, case: Case, session: str) -> int:
        """Submit; answers how many tasks that were.

        Raises:
            Permanent: `demo_refused`, with what the system answered.
        """
        try:
            return await self._submit(case, session)
        except (httpx.HTTPError, openai.OpenAIError, nats.errors.Error) as error:
            raise Permanent("demo_refused", f"{case.title}: {error}") from error

    async def _submit(self, case: Case, session: str) -> int:
        if case.cancel:
            return await self._cancelled(case, session)
        if case.way == "nats":
            await self._over_nats(case, session)
        elif case.way == "http":
            await self._over_http(case, session)
        elif case.way == "openai":
            await self._over_openai(case, session)
        else:
            await self._millrace.submit(case.agent, case.question, session=session)
        return 1

    async def _over_nats(self, case: Case, session: str) -> None:
        """Nothing but nats-py: any NATS client in any language can do this."""
        connection = await nats.connect(self._address.servers, token=self._address.token)
        body = orjson.dumps({"input": case.question})
        await connection.publish(f"tasks.default.{case.agent}.{session}", body)
        await connection.drain()

    async def _over_http(self, case: Case, session: str) -> None:
        body = {"agent": case.agent, "session": session, "input": case.question}
        answer = await self._http.post("/v1/tasks", json=body)
        answer.raise_for_status()

    async def _over_openai(self, case: Case, session: str) -> None:
        """The unchanged OpenAI client; the agent stands where the model stands."""
        base = f"{str(self._http.base_url).rstrip('/')}/v1"
        async with openai.AsyncOpenAI(base_url=base, api_key="none", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model=f"agent:{case.agent}",
                messages=[{"role": "user", "content": case.question}],
                metadata={"session": session},
                stream=True,
            )
            async for _ in stream:
                pass  # the answer is checked in the log, where every way ends

    async def _cancelled(self, case: Case, session: str) -> int:
        for n in range(_AHEAD):
            await self._millrace.submit(case.agent, f"What is {n + 2} * 21?", session=session)
        task = await self._millrace.submit(case.agent, case.question, session=session)
        await task.cancel(by="demo", reason="to show it")
        return _AHEAD + 1


@asynccontextmanager
async def open_ways(url: str, address: Address) -> AsyncIterator[tuple[Ways, Millrace]]:
    """Both connections, closed at the end."""
    http = httpx.AsyncClient(base_url=url, timeout=60, trust_env=False)
    async with http, Millrace.connect(address.url, address.token) as millrace:
        yield Ways(http, millrace, address), millrace
