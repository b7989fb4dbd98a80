"""Which links of a site are new, by what its servers say; what is done about it, and when not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
import pytest

from infra.nats import links as module
from infra.nats.links import Follower, Links
from shared.errors import Transient
from shared.telemetry import configure

ONE, TWO = "http://one:8222", "http://two:8222"


class Told:
    """Servers and the numbers of their links; one without is down."""

    def __init__(self) -> None:
        self.links: dict[str, list[int]] = {}
        self.run = "a"

    def __call__(self, request: httpx.Request) -> httpx.Response:
        found = self.links.get(request.url.host)
        if found is None:
            raise httpx.ConnectError("refused", request=request)
        leafs = [{"id": one} for one in found]
        return httpx.Response(200, json={"server_id": self.run, "leafs": leafs})


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def links(told: Told) -> Links:
    return Links(httpx.AsyncClient(transport=httpx.MockTransport(told)), [ONE, TWO])


async def test_a_link_is_new_once(told: Told, links: Links) -> None:
    told.links = {"one": [5], "two": []}
    assert await links.new() == {("a", 5)}
    assert await links.new() == set()


async def test_a_link_that_was_opened_again_is_another_one(told: Told, links: Links) -> None:
    told.links = {"one": [5]}
    await links.new()
    told.links = {"one": [9]}
    assert await links.new() == {("a", 9)}


async def test_after_a_restart_the_same_number_is_another_link(told: Told, links: Links) -> None:
    told.links = {"one": [5]}
    await links.new()
    told.run = "b"
    assert await links.new() == {("b", 5)}


async def test_a_server_that_does_not_answer_has_none(told: Told, links: Links) -> None:
    told.links = {"one": [5]}
    await links.new()
    told.links = {}
    assert await links.new() == set()
    told.links = {"two": [7]}
    assert await links.new() == {("a", 7)}


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"server_id": "a", "leafs": [{}]}'])
async def test_what_is_no_answer_has_none(body: bytes) -> None:
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, content=body))
    assert await Links(httpx.AsyncClient(transport=transport), [ONE]).new() == set()


async def test_no_links_may_be_null(told: Told) -> None:
    body = {"server_id": "a", "leafs": None}
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, json=body))
    assert await Links(httpx.AsyncClient(transport=transport), [ONE]).new() == set()


class Deeds:
    """In the place of a bus: notes what was done with it, or cannot be reached."""

    log = configure("test", "critical")

    def __init__(self) -> None:
        self.away = False
        self.done: list[str] = []

    def does(self, name: str) -> Callable[[object], Awaitable[None]]:
        async def do(_bus: object) -> None:
            if self.away:
                raise Transient("bus_unavailable", "away")
            self.done.append(name)

        return do


@pytest.fixture
def deeds(monkeypatch: pytest.MonkeyPatch) -> Deeds:
    found = Deeds()
    monkeypatch.setattr(module, "resume", found.does("resume"))
    return found


async def test_it_resumes_for_a_new_link_and_makes_sure_of_the_sources(
    told: Told, links: Links, deeds: Deeds
) -> None:
    told.links = {"one": [5]}
    follower = Follower(deeds, links, deeds.does("join"))  # type: ignore[arg-type]  # the fake
    assert await follower.look()
    for _ in range(10):
        assert not await follower.look()
    assert deeds.done == ["resume", "join", "join"]


async def test_what_failed_is_tried_again(told: Told, links: Links, deeds: Deeds) -> None:
    told.links, deeds.away = {"one": [5]}, True
    follower = Follower(deeds, links, deeds.does("join"))  # type: ignore[arg-type]  # the fake
    assert not await follower.look()
    assert not await follower.look()
    deeds.away = False
    assert await follower.look()
    assert deeds.done == ["resume", "join"]
