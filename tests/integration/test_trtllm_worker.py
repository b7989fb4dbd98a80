"""A worker with `engine: tensorrt_llm` as a real process in the real system; the library is the
look-alike, its rank a process of its own that can be killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import psutil
import pytest

from infra.local.settings import ROOT
from shared.bus.connect import Bus
from shared.client import Millrace, Task
from shared.contracts.facts import Done
from tests.contract.engines.tiny_model import build_tiny_model
from tests.integration.broker_process import NatsServer
from tests.integration.service_processes import Processes, answering, drained, processes
from tests.integration.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
CONTEXT = 16_384
MODELS = """
models:
  nano:
    engine: tensorrt_llm
    path: {path}
    context: 16384
    concurrency: 4
    silence_s: 1.0
    options: {{kv_cache_config: {{max_tokens: 65536}}}}
routes: {{default: [nano]}}
"""
CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "6*7"}}\n</tool_call>'
LONG = "one by one the wheel takes them " * 6 + "and that is all"


@pytest.fixture
def system(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> Iterator[Processes]:
    folder = build_tiny_model(tmp_path / "tiny", max_position_embeddings=CONTEXT)
    with processes(nats_server, tmp_path) as started:
        (tmp_path / "models.yaml").write_text(MODELS.format(path=folder))
        path = f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'fakes'}"
        started.also(PYTHONPATH=path, LOOKALIKE_PACE="0.02")
        yield started


async def rank_of(worker: Popen[bytes]) -> psutil.Process:
    """The engine's process."""
    found: list[psutil.Process] = []

    async def there() -> bool:
        found[:] = psutil.Process(worker.pid).children()
        return bool(found)

    await until(there)
    return found[0]


async def first_word(task: Task) -> None:
    """Wait until some of the answer has been said."""
    async for event in task.events():
        if event.kind == "delta":
            return


async def test_a_task_ends_right_though_a_rank_is_killed_in_the_middle(
    system: Processes, bus: Bus
) -> None:
    client = Millrace(bus)
    for name in ("sessions", "router", "tools"):
        system.start(name)
    worker = system.start("inference")
    await answering(bus, "sessions", "router", "tools", "inference")

    task = await client.submit("summer", f"Say exactly: {CALL}", session="s1")
    assert (await task.result(60)).output == "The tool said 42."

    rank = await rank_of(worker)
    task = await client.submit("summer", f"Say exactly: {LONG}", session="s2")
    await first_word(task)
    rank.send_signal(signal.SIGKILL)
    assert await asyncio.to_thread(worker.wait, 30) != 0  # nobody told it; it found out
    instead = system.start("inference")
    assert (await task.result(60)).output == LONG
    facts = [stored.fact for stored in await task.facts()]
    assert sum(isinstance(fact, Done) for fact in facts) == 1

    assert await drained(instead) < 10
    assert not psutil.pid_exists(rank.pid)
