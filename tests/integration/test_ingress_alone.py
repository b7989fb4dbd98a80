"""The ingress process by itself: without a broker, without services, told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import orjson
import pytest

from infra.local.settings import ROOT, inherited_environment
from services.ingress.core.tasks.state import session_of_task
from tests.integration.ingress_system import ingress, whole_system

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
EVERYTHING = ("sessions", "router", "tools", "retrieval", "ledger", "worker")
CHAT = {"model": "nano", "messages": [{"role": "user", "content": "Hello"}]}


async def run(*arguments: str, **environment: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.ingress", *arguments),
        env=inherited_environment() | {"PYTHONPATH": str(ROOT)} | environment,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, output.decode()


async def test_it_refuses_to_start_open():
    status, output = await run(MILLRACE_HTTP_HOST="0.0.0.0")  # noqa: S104
    assert status == 2
    assert "auth_required" in output
    assert "MILLRACE_AUTH" in output


async def test_settings_are_printed_masked():
    status, output = await run("--print-settings", MILLRACE_NATS_TOKEN="hidden")  # noqa: S106
    assert status == 0
    assert '"http_host": "127.0.0.1"' in output
    assert "hidden" not in output


async def test_without_a_broker_it_lives_and_says_what_is_missing(tmp_path):
    async with ingress(tmp_path) as alone:
        assert (await alone.http.get("/healthz")).status_code == 200
        ready = await alone.http.get("/readyz")
        assert (ready.status_code, ready.json()["missing"]) == (503, ["bus"])
        refused = await alone.http.post("/v1/chat/completions", json=CHAT)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "bus_unavailable"
        assert int(refused.headers["retry-after"]) >= 1
        stream = await alone.http.get("/v1/sessions/s1/events")
        assert (stream.status_code, stream.json()["code"]) == (503, "bus_unavailable")
        assert "Waiting for" in (await alone.http.get("/")).text


async def test_with_a_broker_only(tmp_path):
    async with whole_system(tmp_path, ()) as front:
        missing = await front.ready(*EVERYTHING)
        assert missing == [*EVERYTHING]
        chat = await front.http.post("/v1/chat/completions", json=CHAT)
        assert (chat.status_code, chat.json()["error"]["code"]) == (503, "no_responders")
        unknown = await front.http.post("/v1/tasks", json={"agent": "plain", "input": "Hello"})
        assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_agent")
        nobody = await front.http.get("/v1/tasks/nobody")
        assert (nobody.status_code, nobody.json()["code"]) == (404, "unknown_task")


async def test_a_broker_that_dies_is_missed_and_found_again(tmp_path):
    absent = EVERYTHING
    async with whole_system(tmp_path, ()) as front:
        await front.ready(*absent)
        os.kill(orjson.loads((tmp_path / "pids.json").read_bytes())["nats"], signal.SIGKILL)
        codes = set()
        for _ in range(600):
            answer = await front.http.get("/v1/tasks/nobody")
            codes.add((answer.status_code, answer.json()["code"]))
            if len(codes) == 2 and answer.status_code == 404:
                break
            await asyncio.sleep(0.05)
        assert codes == {(503, "bus_unavailable"), (404, "unknown_task")}
        assert await front.ready(*absent) == list(absent)


async def test_a_queued_task_is_found_by_its_id(tmp_path):
    async with whole_system(tmp_path, ("ledger",)) as front:
        await front.ready(*EVERYTHING)
        assert front.system is not None
        async with front.system.client() as client:
            await client.submit("plain", "Hello", session="s1", task="t1")
            await client.submit("plain", "Hello", session=session_of_task("t2"), task="t2")
        for _ in range(300):
            if (found := await front.http.get("/v1/tasks/t1")).status_code == 200:
                break
            await asyncio.sleep(0.1)
        assert (found.json()["state"], found.json()["session"]) == ("queued", "s1")
        assert (await front.http.get("/v1/tasks/t2")).json()["state"] == "queued"


async def test_a_shutdown_ends_streams_in_order(tmp_path):
    async with whole_system(tmp_path, ()) as front:
        await front.ready(*EVERYTHING)
        assert front.system is not None
        async with front.system.client() as client:
            task = await client.submit("plain", "Hello", session="s1", task="t1")
        path = f"/v1/tasks/{task.id}/events?session=s1"
        async with front.http.stream("GET", path) as response:
            pieces = response.aiter_bytes()
            assert b"event: task" in await anext(pieces)
            stopping = asyncio.create_task(front.terminate())
            rest = [piece async for piece in pieces]  # ends without a broken connection
        assert await stopping == 0
        assert b"done" not in b"".join(rest)
