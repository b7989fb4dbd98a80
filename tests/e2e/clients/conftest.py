"""One running system for all clients."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.clients.fronts import Fronts, running_fronts


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def fronts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fronts]:
    """Two replicas before one loop.

    Not kept for the session: a loop that stands still for minutes, while tests of other packages
    run, answers no PING, and the server hangs up.
    """
    async with running_fronts(tmp_path_factory.mktemp("fronts")) as running:
        yield running
