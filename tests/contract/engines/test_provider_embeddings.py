"""Embedding models behind endpoints: llama.cpp's server, and the built-in model behind ours."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.inference.adapters.provider.factory import build_provider
from shared.models import ModelsFile, ProviderModel
from tests.contract.engines.embedding_suite import EmbeddingSuite, EmbedHarness, MakeEmbedder
from tests.integration.embedding_system import BUILT_IN, DIMENSIONS, KEY, embedding_system
from tests.integration.provider.endpoints import llama_server

pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(60),
]
NOTHING = ModelsFile(models={}, routes={})


def model_of(url: str, name: str, **more: object) -> EmbedHarness:
    row = ProviderModel(
        name=name, base_url=f"{url}/v1", key="THE_KEY", embeddings=True, context=512,
        **more.pop("row", {}),  # type: ignore[arg-type]
    )  # fmt: skip
    return EmbedHarness(build_provider(row, {"THE_KEY": KEY}.get), **more)  # type: ignore[arg-type]


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", name="make", params=["llama", "millrace"]
)
async def make_embedder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[MakeEmbedder]:
    folder = tmp_path_factory.mktemp("vectors")
    if request.param == "llama":
        with llama_server(folder, 0, "vectors") as url:
            yield lambda: model_of(url, "nano", tokens=(4, 5, 6), long="word " * 600)
        return
    async with embedding_system(folder, NOTHING) as system:
        row = {"dimensions": DIMENSIONS}
        yield lambda: model_of(system.url, BUILT_IN, row=row)


class TestProviderEmbeddings(EmbeddingSuite):
    """All of it."""
