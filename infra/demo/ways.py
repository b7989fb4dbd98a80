"""The ways in: a task over plain NATS, over HTTP, through the OpenAI client, through ours.

Each is a good client: where a part of the system is away for the moment it tries again, under the
same name, so that nothing is done twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import nats
import nats.errors
import openai
import orjson

from infra.demo.cases import Case
from shared.bus.connect import open_bus
from shared.bus.login import login_of
from shared.client import Millrace
from shared.clock import monotonic, now
from shared.contracts.base import as_token
from shared.contracts.keys import NewKey
from shared.errors import Permanent, Transient
from shared.keys import Keys
from shared.settings import Address
from shared.telemetry import configure

_PATIENCE, _PAUSE = 30.0, 0.5
_PASSING = frozenset({429, 502, 503, 504})
_KEY_FOR = 3600.0
"""Seconds after which the demo's key ends by itself, should nobody end it before."""
_AHEAD = 4
"""Tasks in front of the one that is cancelled, so that it surely still waits."""


class Ways:
    """Submits a case in its way; the OpenAI client also waits for the answer."""

    def __init__(
        self, http: httpx.AsyncClient, millrace: Millrace, address: Address, key: str = ""
    ) -> None:
        """`key` is an API key, for an ingress that asks for one."""
        self._http = http
        self._key = key or "none"
        self._millrace = millrace
        self._address = address

    async def submit(self, case: Case, session: str) -> int:
        """Submit; answers how many tasks that were.

        Raises:
            Permanent: `demo_refused`, with what the system answered.
        """
        try:
            return await again(lambda: self._submit(case, session))
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
            name = f"{session}-0"
            await self._millrace.submit(case.agent, case.question, session=session, task=name)
        return 1

    async def _over_nats(self, case: Case, session: str) -> None:
        """Nothing but nats-py: any NATS client in any language can do this."""
        login = login_of(self._address, "demo").options()
        connection = await nats.connect(self._address.servers, allow_reconnect=False, **login)
        body = orjson.dumps({"input": case.question})
        subject, name = (
            f"tasks.default.{case.agent}.{session}",
            {"Nats-Msg-Id": as_token(f"{session}-{case.title}")},
        )
        try:
            # a request: the stream answers when the task is stored
            await connection.request(subject, body, timeout=5, headers=name)
        finally:
            await connection.close()

    async def _over_http(self, case: Case, session: str) -> None:
        body = {"agent": case.agent, "session": session, "input": case.question}
        name = {"Idempotency-Key": f"{session}-{case.title}"}
        answer = await self._http.post("/v1/tasks", json=body, headers=name)
        answer.raise_for_status()

    async def _over_openai(self, case: Case, session: str) -> None:
        """The unchanged OpenAI client; the agent stands where the model stands."""
        if await self._millrace.session(session).history():
            return  # the connection broke, but the task was there: it goes on without us
        base = f"{str(self._http.base_url).rstrip('/')}/v1"
        async with openai.AsyncOpenAI(base_url=base, api_key=self._key, max_retries=0) as client:
            stream = await client.chat.completions.create(
                model=f"agent:{case.agent}",
                messages=[{"role": "user", "content": case.question}],
                metadata={"session": session},
                stream=True,
            )
            async for _ in stream:
                pass  # the answer is checked in the log, where every way ends

    async def _cancelled(self, case: Case, session: str) -> int:
        questions = [*(f"What is {n + 2} * 21?" for n in range(_AHEAD)), case.question]
        for n, question in enumerate(questions):
            name = f"{session}-{n}"
            task = await self._millrace.submit(case.agent, question, session=session, task=name)
        await task.cancel(by="demo", reason="to show it")
        return len(questions)


async def again[A](action: Callable[[], Awaitable[A]]) -> A:
    """The outcome of an action, tried for half a minute while the system is not all there."""
    end = monotonic() + _PATIENCE
    while True:
        try:
            return await action()
        except (httpx.HTTPError, nats.errors.Error, openai.APIError, Transient) as error:
            if monotonic() > end or not _passing(error):
                raise
            await asyncio.sleep(_PAUSE)


def _passing(error: Exception) -> bool:
    """Whether trying again can help: the connection broke, or the answer says so."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in _PASSING
    if isinstance(error, openai.APIStatusError):
        return error.status_code in _PASSING
    return True


@asynccontextmanager
async def open_ways(url: str, address: Address) -> AsyncIterator[tuple[Ways, Millrace]]:
    """Both connections, closed at the end; with a key of its own where the ingress asks for one."""
    http = httpx.AsyncClient(base_url=url, timeout=60, trust_env=False)
    log = configure("demo", "error")
    async with http, open_bus(address, "client", log) as bus:
        millrace = Millrace(bus)
        if not await _asks_for_a_key(http):
            yield Ways(http, millrace, address), millrace
            return
        keys = Keys(millrace.bus, millrace.tenant)
        issued = await keys.create(NewKey(name="demo", expires=now() + _KEY_FOR))
        try:
            http.headers["Authorization"] = f"Bearer {issued.secret}"
            await _until_known(http)
            yield Ways(http, millrace, address, issued.secret), millrace
        finally:
            await keys.revoke(issued.key.id)


async def _asks_for_a_key(http: httpx.AsyncClient) -> bool:
    """Whether it does; for as long as it cannot tell (it has not read the keys yet), ask again."""

    async def ask() -> bool:
        answer = await http.get("/v1/models")
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            return True
        answer.raise_for_status()
        return False

    return await again(ask)


async def _until_known(http: httpx.AsyncClient) -> None:
    """Wait for the ingress to hear of the key.

    Raises:
        Transient: `demo_refused`.
    """
    end = monotonic() + _PATIENCE
    while await _asks_for_a_key(http):
        if monotonic() > end:
            raise Transient("demo_refused", "the ingress does not take the key made for the demo")
        await asyncio.sleep(_PAUSE)
