"""What real processes write to their logs, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from shared.bus.connect import Bus
from shared.client import Millrace
from shared.trace import TraceContext
from tests.integration.broker_process import NatsServer
from tests.integration.service_processes import Processes, answering, processes
from tests.integration.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]
CLIENT = TraceContext("ab" * 16, "cd" * 8)


@pytest.fixture
def running(nats_server: NatsServer, tmp_path: Path) -> Iterator[Processes]:
    with processes(nats_server, tmp_path) as found:
        yield found


async def test_every_line_is_an_object_and_says_whose_message_it_is_about(
    running: Processes, nats_server: NatsServer, bus: Bus
) -> None:
    """Without a worker the router tries a step again and again, and says so."""
    running.also(MILLRACE_LOG_FORMAT="json", MILLRACE_LOG_LEVEL="debug")
    running.start("sessions")
    running.start("router")
    await answering(bus, "sessions", "router")
    task = await Millrace(bus).submit("summer", "hello", session="s1", traceparent=str(CLIENT))
    await until(lambda: running.log().count("message.retry") > 3, within=30)
    lines = [orjson.loads(line) for line in running.log().splitlines()]
    assert {line["event"] for line in lines} >= {"service.started", "message.retry"}
    for line in [one for one in lines if one["event"] == "message.retry"]:
        assert (line["tenant"], line["session"], line["task"]) == ("default", "s1", task.id)
        assert (line["step"], line["trace_id"]) == (0, CLIENT.trace_id)
        assert (line["service"], line["code"]) == ("router", "no_worker")
    assert nats_server.token not in running.log()
