"""One llama.cpp and one Millrace for all tests of endpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.e2e.clients.fronts import Fronts, running_fronts
from tests.integration.provider.endpoints import Place, llama, llama_server, millrace


@pytest.fixture(scope="package")
def llama_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with llama_server(tmp_path_factory.mktemp("llama")) as url:
        yield url


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def fronts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fronts]:
    async with running_fronts(tmp_path_factory.mktemp("fronts")) as running:
        yield running


@pytest.fixture(params=["llama-openai", "llama-anthropic", "millrace-openai", "millrace-anthropic"])
def place(request: pytest.FixtureRequest, llama_url: str, fronts: Fronts) -> Place:
    """Every endpoint, one after the other."""
    server, api = request.param.split("-")
    return llama(llama_url, api) if server == "llama" else millrace(fronts.urls[0], api)


@pytest.fixture(params=["openai", "anthropic"])
def own(request: pytest.FixtureRequest, fronts: Fronts) -> Place:
    """Our own ingress, in both dialects."""
    return millrace(fronts.urls[0], request.param)


@pytest.fixture(params=["openai", "anthropic"])
def other(request: pytest.FixtureRequest, llama_url: str) -> Place:
    """llama.cpp, in both dialects."""
    return llama(llama_url, request.param)
