"""What becomes of a request when its endpoint, or the way there, does not do its part.

The endpoint is llama.cpp, the way is a proxy on raw sockets. The proxy counts what it is asked: a
failure is never tried again in here, or somebody would pay twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from infra.local.broker import free_port
from services.inference.adapters.provider.chat import ProviderChat
from services.inference.adapters.provider.rotation import IN_A_ROW
from services.inference.ports import EndpointRefused, EngineFailed
from shared.errors import MillraceError
from shared.models import Timeouts
from tests.integration.provider.endpoints import KEY, Place, asking, started
from tests.integration.provider.proxy import Fault, Proxy, proxy, reply
from tests.integration.waiting import until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="package"),
    pytest.mark.timeout(60),
]
CALM, HASTY = Timeouts(), Timeouts(first_token=0.5, between_tokens=0.5)


@pytest_asyncio.fixture(loop_scope="package")
async def way(other: Place) -> AsyncIterator[Proxy]:
    """A proxy before llama.cpp."""
    async with proxy(other.port) as found:
        yield found


def through(way: Proxy, place: Place, timeouts: Timeouts = CALM):
    path = "/v1" if place.api == "openai" else ""
    return started(place.row(base_url=way.url + path, timeouts=timeouts))


async def failure(chat: ProviderChat, place: Place) -> MillraceError:
    with pytest.raises(MillraceError) as failed:
        await asking(chat, place.hello).said()
    assert KEY not in str(failed.value)
    stats = chat.stats()
    assert (stats.running, stats.waiting) == (0, 0)
    return failed.value


async def test_a_way_without_faults_changes_nothing(way: Proxy, other: Place) -> None:
    async with through(way, other) as chat:
        assert (await asking(chat, other.hello).said()).text == other.answer
        assert KEY in way.heads[0]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("cut"),
        Fault("garbage", raw=b"event: x\ndata: {nonsense\n\n"),
        Fault("garbage", raw=b"event: x\ndata: \xff\xfe{}\n\n"),
        Fault("garbage", raw=b'event: message_start\ndata: {"type": 7, "choices": "no"}\n\n'),
        Fault("garbage", raw=b'event: error\ndata: {"error": {"message": "oh no"}}\n\n'),
        reply("200 OK", b"<html>a captive portal</html>", "Content-Type: text/html"),
        reply("200 OK", b"", "Content-Type: text/event-stream"),
    ],
    ids=["cut", "no-json", "no-utf8", "no-chunk", "error", "html", "empty"],
)
async def test_a_stream_that_breaks_is_a_failure_for_the_moment(way, other, fault) -> None:
    async with through(way, other) as chat:
        way.fault = fault
        error = await failure(chat, other)
        assert isinstance(error, EngineFailed)
        assert (error.code, error.family) == ("engine_failed", "transient")
        assert way.asked == 1
        way.fault = Fault()
        assert (await asking(chat, other.hello).said()).text == other.answer


async def test_a_limited_rate_says_when_to_come_back(way: Proxy, other: Place) -> None:
    async with through(way, other) as chat:
        way.fault = reply("429 Too Many Requests", b"{}", "Retry-After: 7")
        error = await failure(chat, other)
        assert (error.code, error.retry_after) == ("provider_rate_limited", 7.0)
        assert (way.asked, chat.stats().capacity) == (1, 8)


@pytest.mark.parametrize("status", ["500 Oops", "502 Bad Gateway", "503 Busy", "529 Overloaded"])
async def test_a_server_in_trouble_is_left_alone_after_a_while(way, other, status) -> None:
    async with through(way, other) as chat:
        way.fault = reply(status, b"<html>trouble</html>")
        for _ in range(IN_A_ROW):
            assert (await failure(chat, other)).code == "provider_unavailable"
        assert (way.asked, chat.stats().capacity) == (IN_A_ROW, 0)
        error = await failure(chat, other)
        assert (error.code, way.asked) == ("provider_unavailable", IN_A_ROW)
        assert error.retry_after is not None


async def test_a_key_that_is_repeated_is_not_passed_on(way: Proxy, other: Place) -> None:
    async with through(way, other) as chat:
        body = b'{"error": {"message": "do not send %s here", "type": "x"}}' % KEY.encode()
        way.fault = reply("400 Bad Request", body, "Content-Type: application/json")
        error = await failure(chat, other)
        assert (error.code, error.detail) == ("invalid_request", "do not send *** here")
        way.fault = reply("401 Unauthorized", body, "Content-Type: application/json")
        error = await failure(chat, other)
        assert isinstance(error, EndpointRefused)
        assert "THE_KEY" in error.detail


async def test_silence_is_not_waited_out(way: Proxy, other: Place) -> None:
    async with through(way, other, HASTY) as chat:
        way.fault = Fault("silence")
        error = await failure(chat, other)
        assert (error.code, way.asked) == ("provider_unavailable", 1)
        await way.let_go()


async def test_a_stream_that_falls_silent_is_let_go(way: Proxy, other: Place) -> None:
    async with through(way, other, HASTY) as chat:
        way.fault = Fault("stall")
        error = await failure(chat, other)
        assert (error.code, way.asked) == ("engine_failed", 1)
        await way.let_go()


async def test_a_slow_stream_is_waited_for(way: Proxy, other: Place) -> None:
    async with through(way, other, HASTY) as chat:
        way.fault = Fault("slow")
        assert (await asking(chat, other.hello).said()).text == other.answer


@pytest.mark.parametrize(
    ("status", "capacity"),
    [("200 OK", 8), ("403 Forbidden", 8), ("404 Not Found", 8), ("429 Too Many", 8),
     ("501 Not Implemented", 8), ("401 Unauthorized", 0), ("503 Busy", 0)],
)  # fmt: skip
async def test_a_look_tells_only_of_keys_and_of_servers_in_trouble(
    way, other, status, capacity
) -> None:
    way.look = reply(status, b"no list here", "Content-Type: text/plain")
    async with through(way, other) as chat:
        assert chat.stats().capacity == capacity


@pytest.mark.parametrize("kind", ["silence", "stall"])
async def test_an_abort_closes_the_connection(way: Proxy, other: Place, kind) -> None:
    async with through(way, other) as chat:
        way.fault = Fault(kind)
        running = asyncio.create_task(asking(chat, other.hello).said())
        await until(lambda: way.open == 1)
        await chat.abort("r")
        async with asyncio.timeout(10):
            assert (await running).result.finish_reason == "aborted"
            await way.let_go()


async def test_nobody_at_the_other_end(other: Place) -> None:
    port = free_port()
    path = "/v1" if other.api == "openai" else ""
    async with started(other.row(base_url=f"http://127.0.0.1:{port}{path}")) as chat:
        assert chat.stats().capacity == 0
        error = await failure(chat, other)
        assert (error.code, error.family) == ("provider_unavailable", "transient")
