"""The real application over the in-memory system, called without a socket."""

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.types import ASGIApp

from services.ingress.adapters.http.app import Parts, build
from services.ingress.adapters.http.middleware import Bodies
from services.ingress.adapters.http.streams import Streams
from services.ingress.handlers.chat import ChatHandlers
from services.ingress.handlers.control import ControlHandlers
from services.ingress.handlers.conversations import ConversationHandlers
from services.ingress.handlers.embeddings import EmbeddingHandlers
from services.ingress.handlers.messages import MessageHandlers
from services.ingress.handlers.responses import ResponseHandlers
from services.ingress.handlers.schedules import ScheduleHandlers
from services.ingress.handlers.tasks import TaskHandlers
from services.ingress.handlers.usage import UsageHandlers
from shared.models import Prices
from tests.fakes.housekeeping import FakeHousekeeping
from tests.fakes.ingress_system import FakeSchedules, FakeSystem
from tests.fakes.keys import FakeKeys
from tests.fakes.ledger import FakeLedger

SCHEDULES, KEYS = FakeSchedules(), FakeKeys()
STREAMS = Streams()


@pytest.fixture(scope="session")
def kept() -> FakeHousekeeping:
    """What the one application of all tests keeps house with."""
    return FakeHousekeeping()


@pytest.fixture(scope="session")
def running(kept: FakeHousekeeping) -> tuple[FakeSystem, ASGIApp]:
    """One application for all tests: building its routes takes longer than a test."""
    system = FakeSystem()
    parts = Parts(
        chat=ChatHandlers(system, system, system, system),
        messages=MessageHandlers(system, system, system, system),
        tasks=TaskHandlers(system, system, system),
        control=ControlHandlers(system),
        responses=ResponseHandlers(system, system, kept, system),
        conversations=ConversationHandlers(system, kept, system),
        keys=KEYS,
        schedules=ScheduleHandlers(SCHEDULES, system),
        embeddings=EmbeddingHandlers(
            system, system, system, system, {"all-MiniLM-L6-v2": Prices(input="0.50")}
        ),
        documents=system,
        housekeeping=kept,
        usage=UsageHandlers(FakeLedger(), "EUR"),
        catalog=system,
        health=system,
    )
    return system, build(parts, host="127.0.0.1", bodies=Bodies(4096), streams=STREAMS)


@pytest.fixture
def system(running: tuple[FakeSystem, ASGIApp]) -> FakeSystem:
    system, _ = running
    vars(system).update(vars(FakeSystem()))
    SCHEDULES.kept.clear()
    return system


@pytest.fixture
def house(kept: FakeHousekeeping) -> FakeHousekeeping:
    vars(kept).update(vars(FakeHousekeeping()))
    return kept


@pytest.fixture
async def http(
    running: tuple[FakeSystem, ASGIApp], system: FakeSystem
) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(running[1], raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def quick_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats every 30 milliseconds."""
    monkeypatch.setattr(STREAMS, "_tick", 0.002)
