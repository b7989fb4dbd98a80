"""What the doctor says of the processes' metrics."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from infra.local.scraping import Target, free_ports, write_targets
from services.cli.adapters.scrapes import metrics_check
from shared.metrics.exporter import TARGETS_FILE, exporting
from shared.settings import Place

pytestmark = pytest.mark.integration
HOST = "127.0.0.1"


async def test_each_process_that_does_not_answer_or_is_not_ready_is_named(tmp_path: Path) -> None:
    tools, router, ledger = free_ports(HOST, 3)
    seen = [
        Target("tools", "tools", tools),
        Target("router", "router", router),
        Target("ledger-2", "ledger", ledger),
    ]
    write_targets(tmp_path, HOST, seen)
    log = structlog.get_logger(service="test")
    async with (
        exporting("tools", Place(HOST, tools), log) as vital,
        exporting("ledger", Place(HOST, ledger), log) as other,
    ):
        vital.connected = vital.present = other.connected = lambda: True
        found = await metrics_check(tmp_path)
        assert found.outcome == "failed"
        assert "router: 127.0.0.1:" in found.found
        assert "ledger-2: not ready" in found.found
        assert "tools" not in found.found
        other.present = lambda: True
        write_targets(tmp_path, HOST, [seen[0], seen[2]])
        found = await metrics_check(tmp_path)
    assert (found.outcome, found.found) == ("ok", "all 2 processes answer")


@pytest.mark.parametrize("body", [None, b"{", b'[{"targets": []}]', b"[1]"])
async def test_without_a_good_file_there_is_a_warning(tmp_path: Path, body: bytes | None) -> None:
    if body is not None:
        (tmp_path / TARGETS_FILE).write_bytes(body)
    assert (await metrics_check(tmp_path)).outcome == "warning"
