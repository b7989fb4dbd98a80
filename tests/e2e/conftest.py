"""The fixture of all end-to-end tests: one whole system per test session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.running import System, start


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A ready system on a data folder of its own; its end must be orderly.

    Its services have only the rights of the permission table: none of them may miss one.
    """
    running = start(tmp_path_factory.mktemp("system"))
    try:
        running.await_ready()
        yield running
        assert running.stop() == 0
        assert running.refusals() == []
    finally:
        running.process.kill()
        running.process.wait()
