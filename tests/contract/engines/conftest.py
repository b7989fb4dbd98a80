"""Models made once per test session, and the one that a module's suite shares."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.inference.ports import ChatModel
from tests.contract.engines.chat_harness import ChatHarness, MakeChat, started
from tests.contract.engines.tiny_model import build_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def harness(make: MakeChat) -> ChatHarness:
    """Of the suite of chat models: what its module's `make` makes."""
    return make()


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="chat")
async def started_chat(harness: ChatHarness) -> AsyncIterator[ChatModel]:
    async with started(harness) as (chat, _):
        yield chat
