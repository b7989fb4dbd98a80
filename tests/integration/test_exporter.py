"""What a process answers on its little server, as Prometheus and a probe see it."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import structlog

from infra.local.scraping import free_ports
from shared.metrics import exporter
from shared.metrics.catalogue import DISK_FREE, DISK_SIZE
from shared.metrics.exporter import exporting
from shared.settings import Place
from shared.telemetry import Log
from tests.fakes.counted import value
from tests.integration.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture
def log() -> Iterator[Log]:
    """A log that says everything, whatever other tests of this process have set up."""
    before = structlog.get_config()
    structlog.reset_defaults()
    yield structlog.get_logger(service="test")
    structlog.configure(**before)


async def test_health_readiness_and_metrics(log: Log) -> None:
    [port] = free_ports("127.0.0.1", 1)
    async with (
        exporting("tools", Place(port=port), log) as vital,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
    ):
        assert (await http.get("/healthz")).json() == {"status": "ok", "service": "tools"}
        waiting = await http.get("/readyz")
        assert (waiting.status_code, waiting.json()["status"]) == (503, "waiting")
        vital.connected = vital.present = lambda: True
        assert (await http.get("/readyz")).json()["status"] == "ready"
        await asyncio.sleep(0)
        answer = await http.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        assert re.search(r"^millrace_loop_lag_seconds_count \d", answer.text, re.MULTILINE)
        assert "_created" not in answer.text
        assert (await http.get("/")).status_code == 404
        vital.beat -= exporter.STUCK + 1
        assert (await http.get("/healthz")).json()["status"] == "stuck"
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_page_that_rebinds_its_name_is_refused(log: Log) -> None:
    [port] = free_ports("127.0.0.1", 1)
    url = f"http://127.0.0.1:{port}/metrics"
    async with (
        exporting("tools", Place(port=port), log),
        httpx.AsyncClient(trust_env=False) as http,
    ):
        for name in ("evil.example", "[", "localhost.evil.example:80"):
            assert (await http.get(url, headers={"Host": name})).status_code == 403
        assert (await http.get(url, headers={"Host": f"localhost:{port}"})).status_code == 200


async def test_without_its_port_the_process_goes_on_unseen(log: Log) -> None:
    [port] = free_ports("127.0.0.1", 1)
    async with (
        exporting("tools", Place(port=port), log),
        httpx.AsyncClient(trust_env=False) as http,
    ):
        with structlog.testing.capture_logs() as logs:
            async with exporting("router", Place(port=port), log):
                found = (await http.get(f"http://127.0.0.1:{port}/healthz")).json()
        assert found["service"] == "tools"
    assert [(one["event"], one["port"]) for one in logs] == [("metrics.unseen", port)]


async def test_off_listens_nowhere(log: Log) -> None:
    with structlog.testing.capture_logs() as logs:
        async with exporting("tools", Place(port="off"), log):
            await asyncio.sleep(0)
    assert logs == []


async def test_the_disk_of_the_data_folder(log: Log, tmp_path: Path) -> None:
    DISK_SIZE.replace({})
    async with exporting("tools", Place(port="off", data=tmp_path), log):
        await until(lambda: DISK_SIZE.found())
        assert value(DISK_SIZE, "data") == shutil.disk_usage(tmp_path).total
        assert 0 < value(DISK_FREE, "data") <= value(DISK_SIZE, "data")


async def test_without_a_data_folder_nothing_is_told_instead_of_nothing_left(
    log: Log, tmp_path: Path
) -> None:
    DISK_FREE.set(1, "data")
    async with exporting("tools", Place(port="off", data=tmp_path / "none"), log):
        await until(lambda: not DISK_FREE.found())
