"""API keys over two replicas on a real broker: who is let in, whose things they see, what ends."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import openai
import pytest

from infra.demo.cases import CASES
from infra.demo.ways import open_ways
from shared.client import Millrace
from shared.contracts.keys import Allowance, NewKey
from shared.errors import Permanent
from shared.keys import Keys
from shared.settings import BusSettings
from tests.integration.edge_system import edge_system
from tests.integration.ingress_system import ingress
from tests.integration.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
KEYS_ON = {"MILLRACE_AUTH": "keys", "MILLRACE_LOG_LEVEL": "debug"}


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


class Two:
    """Two replicas, and the operator's side of the keys."""

    def __init__(self, fronts: list[httpx.AsyncClient], log: Path) -> None:
        self.fronts, self.log = fronts, log

    async def status(self, secret: str, front: int) -> int:
        answer = await self.fronts[front].get("/v1/models", headers=bearer(secret))
        return answer.status_code

    async def everywhere(self, secret: str, status: int) -> None:
        """Return once both replicas answer so; a second is what is promised, and some for CI."""
        for front in (0, 1):

            async def so(front: int = front) -> bool:
                return await self.status(secret, front) == status

            await until(so, within=10)


async def test_two_replicas(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(edge_system(tmp_path))
        log = tmp_path / "ingress.log"
        fronts = [
            await stack.enter_async_context(ingress(tmp_path, log, **KEYS_ON)) for _ in range(2)
        ]
        two = Two([front.http for front in fronts], log)
        client = await stack.enter_async_context(system.client("acme"))
        acme, umbrella = Keys(client.bus, "acme"), Keys(client.bus, "umbrella")
        one = await acme.create(NewKey(name="one"))
        other = await umbrella.create(NewKey())
        for secret in (one.secret, other.secret):
            await two.everywhere(secret, 200)
        await _rotation(two, acme, one.key.id, one.secret)
        await _isolation(stack, two, system.client, one.secret, other.secret)
        await _openai(fronts[0].url, other.secret)
        await _shared_limit(two, acme)
        await _demo(fronts[0].url, tmp_path)
        revoked = await acme.create(NewKey())
        await two.everywhere(revoked.secret, 200)
        await acme.revoke(revoked.key.id)
        await two.everywhere(revoked.secret, 401)
        said = log.read_text()
        assert "ingress.listening" in said
        for secret in (one.secret, other.secret, revoked.secret):
            assert secret not in said
            assert secret.rpartition("_")[2] not in said


async def _demo(url: str, data: Path) -> None:
    """It makes itself a key where one is asked for, and leaves none behind that is valid."""
    async with open_ways(url, BusSettings(data=data).address()) as (ways, millrace):
        keys = Keys(millrace.bus, millrace.tenant)
        over_http = next(case for case in CASES if case.way == "http")
        # no agents are here: who is told so was let in
        with pytest.raises(Permanent, match="404"):
            await ways.submit(over_http, "of-the-demo")
        (own,) = await keys.list()
        assert (own.name, own.revoked) == ("demo", 0.0)
        assert own.expires < own.created + 7200
    async with Millrace.connect(data=data) as millrace:
        (own,) = await Keys(millrace.bus, millrace.tenant).list()
        assert own.revoked > 0


async def _rotation(two: Two, keys: Keys, key: str, before: str) -> None:
    after = await keys.rotate(key, 60)
    await two.everywhere(after.secret, 200)
    assert [await two.status(before, front) for front in (0, 1)] == [200, 200]


async def _isolation(stack, two, connect, mine: str, theirs: str) -> None:  # type: ignore[no-untyped-def]
    """What belongs to another tenant is as unknown as what does not exist."""
    client = await stack.enter_async_context(connect("umbrella"))
    await client.submit("plain", "Hello", session="s1", task="t1")
    await client.documents("default").upsert("d1", "theirs")
    http = two.fronts[1]
    unseen = {
        ("GET", "/v1/tasks/t1"): "unknown_task",
        ("GET", "/v1/tasks/t1?session=s1"): "unknown_task",
        ("GET", "/v1/tasks/t1/events"): "unknown_task",
        ("POST", "/v1/tasks/t1/cancel"): "unknown_task",
        ("POST", "/v1/tasks/t1/retry"): "unknown_task",
        ("GET", "/v1/sessions/s1"): "unknown_session",
        ("GET", "/v1/sessions/s1/history"): "unknown_session",
        ("GET", "/v1/schedules/s1"): "unknown_schedule",
        ("GET", "/v1/collections/default/documents/d1"): "unknown_document",
        ("GET", "/v1/dead/1"): "unknown_letter",
    }
    claims = {"X-Millrace-Tenant": "umbrella"}
    for (method, path), code in unseen.items():
        answer = await http.request(method, path, headers=bearer(mine) | claims)
        assert (answer.status_code, answer.json()["code"]) == (404, code), path
    listed = await http.get("/v1/collections/default/documents", headers=bearer(mine))
    assert listed.json()["documents"] == []
    assert (await http.get("/v1/keys", headers=bearer(mine))).status_code == 403
    for path in ("/v1/tasks/t1?session=s1", "/v1/collections/default/documents/d1"):
        assert (await http.get(path, headers=bearer(theirs))).status_code == 200


async def _openai(url: str, secret: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=secret, max_retries=0) as client:
        assert [model.id async for model in client.models.list()]
    wrong = secret[:-4] + "0000"
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=wrong, max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as found:
            await client.models.list()
    assert found.value.code == "invalid_api_key"


async def _shared_limit(two: Two, keys: Keys) -> None:
    """Twenty a minute at both together: each has learned of the other and lets its half through."""

    async def know_each_other() -> bool:
        """What remains is counted in halves: nine here stand for eighteen."""
        fresh = await keys.create(NewKey(allowance=Allowance(requests_per_minute=20)))
        await two.everywhere(fresh.secret, 200)
        answers = [
            await two.fronts[n].get("/v1/models", headers=bearer(fresh.secret)) for n in (0, 1)
        ]
        left = [one.headers.get("x-ratelimit-remaining-requests") for one in answers]
        return all(one is not None and int(one) <= 17 for one in left)

    await until(know_each_other, within=60)
    made = await keys.create(NewKey(allowance=Allowance(requests_per_minute=20)))
    await two.everywhere(made.secret, 200)  # one of each half

    async def passed(front: int) -> int:
        codes = [await two.status(made.secret, front) for _ in range(25)]
        assert set(codes) <= {200, 429}
        return codes.count(200)

    counts = [await passed(front) for front in (0, 1)]
    assert 14 <= sum(counts) <= 24, counts
