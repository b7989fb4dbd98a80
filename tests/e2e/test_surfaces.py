"""Every way in leads to the same loop: raw NATS, HTTP, SSE, the OpenAI client, ours, the CLI."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import nats
import openai
import orjson
import pytest

from infra.local.settings import ROOT, inherited_environment
from shared.bus.connect import open_bus
from shared.client import Millrace
from shared.errors import Permanent
from shared.settings import Address
from shared.telemetry import configure
from tests.e2e.running import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


async def test_five_lines_of_nats_py_get_their_done_fact(system: System) -> None:
    nc = await nats.connect(system.nats_url, token=system.token)
    done = await nc.subscribe("run.*.default.raw-1.done.*")
    await nc.publish("tasks.default.assistant.raw-1", b'{"input": "What is 17 * 23?"}')
    fact = orjson.loads((await done.next_msg(30)).data)
    await nc.close()
    assert fact["status"] == "completed"
    assert "391" in fact["output"]


def test_http_task_waits_for_its_result(system: System) -> None:
    body = {"agent": "assistant", "input": "What is 12 * 12?"}
    answer = httpx.post(
        f"{system.http_url}/v1/tasks", json=body, headers={"Prefer": "wait=30"}, timeout=40
    )
    task = answer.json()
    assert answer.status_code == 200, answer.text
    assert (task["state"], "144" in task["output"]) == ("completed", True)
    assert [step["kind"] for step in task["steps"]] == ["infer", "tool", "infer"]
    again = httpx.get(f"{system.http_url}/v1/tasks/{task['task']}", timeout=10).json()
    assert again["output"] == task["output"]


def test_a_repeated_submission_runs_once(system: System) -> None:
    body = {"agent": "assistant", "session": "once", "input": "What is 3 * 3?"}
    headers = {"Idempotency-Key": "order-77", "Prefer": "wait=30"}
    first, second = (
        httpx.post(f"{system.http_url}/v1/tasks", json=body, headers=headers, timeout=40).json()
        for _ in range(2)
    )
    history = httpx.get(f"{system.http_url}/v1/sessions/once/history", timeout=10).json()
    assert first["task"] == second["task"]
    kinds = [fact["kind"] for fact in history["facts"]]
    assert (kinds.count("task"), kinds.count("done")) == (1, 1)


def _events(lines: list[str]) -> list[tuple[str, str]]:
    """(id, data) of each event of an SSE body."""
    found, current = [], {}
    for line in lines:
        name, _, value = line.partition(": ")
        if not line and "id" in current:
            found.append((current["id"], current.get("data", "")))
            current = {}
        elif name in ("id", "data"):
            current[name] = value
    return found


def test_sse_resumes_after_any_event_without_loss_or_repetition(system: System) -> None:
    body = {"agent": "assistant", "session": "sse", "input": "What is 6 * 7?"}
    task = httpx.post(f"{system.http_url}/v1/tasks", json=body, timeout=10).json()["task"]
    url = f"{system.http_url}/v1/tasks/{task}/events?session=sse"
    with httpx.stream("GET", url, timeout=40) as stream:
        whole = _events(list(stream.iter_lines()))
    assert len(whole) >= 6
    for place, (cursor, _) in enumerate(whole[:-1]):
        with httpx.stream("GET", url, headers={"Last-Event-ID": cursor}, timeout=40) as stream:
            rest = _events(list(stream.iter_lines()))
        assert [data for _, data in rest] == [data for _, data in whole[place + 1 :]]


async def test_unmodified_openai_client_streams_an_agent(system: System) -> None:
    async with openai.AsyncOpenAI(base_url=f"{system.http_url}/v1", api_key="none") as client:
        stream = await client.chat.completions.create(
            model="agent:assistant",
            messages=[{"role": "user", "content": "What is 15 * 4?"}],
            stream=True,
        )
        text = "".join(
            [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        )
        plain = await client.chat.completions.create(
            model="default", messages=[{"role": "user", "content": "Hello!"}], max_tokens=40
        )
        models = [model.id async for model in client.models.list()]
    assert "60" in text
    assert plain.choices[0].message.content
    assert plain.usage is not None
    assert plain.usage.completion_tokens > 0
    assert {"default", "nano", "agent:assistant"} <= set(models)


async def test_a_session_remembers(system: System) -> None:
    async with Millrace.connect(data=system.data) as m:
        first = await m.submit("assistant", "Remember that my badge number is 4711.", session="mem")
        await first.result(30)
        second = await m.submit("assistant", "What is my badge number?", session="mem")
        other = await m.submit("assistant", "What is my badge number?", session="mem-other")
        assert "4711" in (await second.result(30)).output
        assert "4711" not in (await other.result(30)).output


async def test_documents_are_found_with_their_source_and_forgotten_when_deleted(
    system: System,
) -> None:
    async with Millrace.connect(data=system.data) as m:
        docs = m.documents()
        sequence = await docs.upsert(
            "parking.md", "# Parking\n\nThe parking fee is 12 euros per day. Ask at the desk."
        )
        found = await docs.search("What is the parking fee?", min_seq=sequence)
        assert found.results[0].document == "parking.md"
        assert "12 euros" in found.results[0].text
        task = await m.submit("assistant", "What is the parking fee?")
        done = await task.result(30)
        assert "parking.md" in done.output
        assert "12" in done.output
        gone = await docs.delete("parking.md")
        after = await docs.search("What is the parking fee?", min_seq=gone)
        assert all(hit.document != "parking.md" for hit in after.results)


async def test_a_tenants_own_nats_user_reads_what_was_before(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made while the system runs; it reaches no stream, and asks for all of this."""
    made = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "infra.nats", "tenant", "default"],
        cwd=ROOT,
        env=inherited_environment() | {"MILLRACE_DATA": str(system.data)},
        check=True,
        capture_output=True,
        text=True,
    )
    async with Millrace.connect(system.nats_url, system.token) as m:
        sequence = await m.documents("own").upsert("mill.md", "The wheel turns at nine.")
        done = await (await m.submit("assistant", "What is 6 * 7?", session="own")).result(30)
        history = await m.session("own").history()
    monkeypatch.setenv("MILLRACE_NATS_CREDS", made.stdout.splitlines()[0])
    async with Millrace.connect(system.nats_url) as own:
        assert own.bus.login.user == "tenant-default"
        task = await own.find_task(done.task)
        assert await task.result(30) == done
        told = await own.session("own").history()
        assert [(f.seq, f.fact) for f in told] == [(f.seq, f.fact) for f in history]
        found = await own.documents("own").search("When does the wheel turn?", min_seq=sequence)
        assert found.results[0].document == "mill.md"
        again = await own.submit("assistant", "What is 12 * 12?", session="own")
        assert "144" in ((await again.result(30)).output or "")
        assert not own.bus.denials.counts


async def test_a_running_task_can_be_cancelled_and_its_session_goes_on(system: System) -> None:
    from shared.contracts.agents import Sampling

    async with Millrace.connect(data=system.data) as m:
        wild = Sampling(temperature=5.0, max_tokens=3000, seed=1)
        task = await m.submit("plain", "Tell me a story.", session="cancel", sampling=wild)
        async for event in task.events():
            if event.kind == "delta":
                break
        await task.cancel(by="test")
        done = await task.result(30)
        assert done.status == "cancelled"
        after = await m.submit("assistant", "What is 2 * 21?", session="cancel")
        assert "42" in (await after.result(30)).output


def _cli(system: System, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "MILLRACE_DATA": str(system.data), "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_cli_runs_a_task_and_shows_its_waterfall(system: System) -> None:
    ran = _cli(system, "run", "What is 8 * 9?", "--session", "cli", "--json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "72" in ran.stdout
    listed = _cli(system, "logs", "cli", "--json")
    facts = [orjson.loads(line) for line in listed.stdout.splitlines() if line.startswith("{")]
    task = next(fact["task"] for fact in facts if fact["kind"] == "done")
    shown = _cli(system, "show", task)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "calculator" in shown.stdout
    assert "completed" in shown.stdout


async def test_usage_in_the_ledger_equals_the_log(system: System) -> None:
    async with Millrace.connect(data=system.data) as m:
        task = await m.submit("assistant", "What is 5 * 5?", session="usage")
        done = await task.result(30)
    for _ in range(200):
        shown = orjson.loads(_cli(system, "tasks", "--json").stdout)
        rows = [row for row in shown if row["task"] == task.id and row["status"] != ""]
        if rows and rows[0]["status"] == "completed":
            break
        await asyncio.sleep(0.1)
    usage = done.totals.usage
    assert rows[0]["usage"] == {
        "input": usage.input,
        "cached": usage.cached,
        "output": usage.output,
    }
    assert rows[0]["price"] == done.totals.price


async def test_a_tenants_own_client_has_a_key_that_the_command_line_makes(system: System) -> None:
    made = await asyncio.to_thread(_cli, system, "--tenant", "acme", "keys", "nats", "--json")
    assert made.returncode == 0, made.stderr
    key = orjson.loads(made.stdout)
    assert (key["known"], key["url"]) == (True, system.nats_url)
    address = Address(key["url"], None, Path(key["file"]))
    async with open_bus(address, "client", configure("test", "critical")) as bus:
        task = await Millrace(bus, "acme").submit("assistant", "What is 6 * 8?")
        assert "48" in (await task.result(timeout=60)).output
        with pytest.raises(Permanent, match="wrong_tenant"):
            Millrace(bus, "default")
