"""Where the router looks for the broker's servers, and what it makes of what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from services.router.adapters.queues import Copies, copies_of
from services.router.adapters.servers import Servers
from services.router.settings import Settings
from shared.errors import Permanent
from shared.metrics.catalogue import (
    BROKER_CONNECTIONS,
    BROKER_HEALTHY,
    BROKER_LEAFS_WANTED,
    BROKER_SLOW,
    BROKER_STORED,
    BROKER_UP,
)
from shared.telemetry import configure
from tests.fakes.counted import value

LOG = configure("test", "critical")
AT = "http://nats:8222"
VARZ: dict[str, Any] = {
    "server_name": "n1",
    "connections": 3,
    "max_connections": 10,
    "slow_consumers": 2,
    "mem": 5,
    "leafnodes": 1,
    "leaf": {"remotes": [{"urls": ["x"]}, {"urls": ["y"]}]},
    "jetstream": {"config": {"max_memory": 7, "max_storage": 8}, "stats": {"storage": 4}},
}


class Told:
    """Servers that say what they are given; what none is given does not answer."""

    def __init__(self, **answers: httpx.Response) -> None:
        self.answers = answers

    def __call__(self, request: httpx.Request) -> httpx.Response:
        found = self.answers.get(request.url.path.strip("/"))
        if found is None:
            raise httpx.ConnectError("refused", request=request)
        return found


async def look(servers: Servers, told: Told) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(told)) as client:
        await servers.look(client)


def varz(**changes: Any) -> httpx.Response:
    return httpx.Response(200, content=orjson.dumps(VARZ | changes))


WELL, UNWELL = httpx.Response(200), httpx.Response(503, json={"error": "write error"})


async def test_a_server_is_shown_by_the_name_that_it_gives_itself() -> None:
    await look(Servers([f"{AT}/"], LOG), Told(varz=varz(), healthz=WELL))
    assert (value(BROKER_UP, "n1"), value(BROKER_HEALTHY, "n1")) == (1, 1)
    assert (value(BROKER_CONNECTIONS, "n1"), value(BROKER_SLOW, "n1")) == (3, 2)
    assert value(BROKER_LEAFS_WANTED, "n1") == 2
    assert (value(BROKER_STORED, "n1", "file"), value(BROKER_STORED, "n1", "memory")) == (4, 0)
    assert [values for values, _ in BROKER_UP.found()] == [("n1",)]


async def test_one_that_lives_and_cannot_write_is_up_and_not_healthy() -> None:
    await look(Servers([AT], LOG), Told(varz=varz(), healthz=UNWELL))
    assert (value(BROKER_UP, "n1"), value(BROKER_HEALTHY, "n1")) == (1, 0)


async def test_one_that_went_away_keeps_its_name_and_loses_its_figures() -> None:
    servers = Servers([AT], LOG)
    await look(servers, Told(varz=varz(), healthz=WELL))
    await look(servers, Told())
    assert [values for values, _ in BROKER_UP.found()] == [("n1",)]
    assert value(BROKER_UP, "n1") == 0
    assert BROKER_CONNECTIONS.found() == []
    await look(servers, Told(varz=varz(slow_consumers=0), healthz=WELL))
    assert (value(BROKER_UP, "n1"), value(BROKER_SLOW, "n1")) == (1, 0)


async def test_a_server_without_streams_has_no_store() -> None:
    await look(Servers([AT], LOG), Told(varz=varz(jetstream={}), healthz=WELL))
    assert (value(BROKER_UP, "n1"), BROKER_STORED.found()) == (1, [])


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"server_name": "n1"}),
        varz(connections="many"),
        varz(leaf=None),
    ],
    ids=["not found", "a page", "a list", "too little", "a wrong type", "null"],
)
async def test_what_does_not_speak_like_a_server_is_not_up(answer: httpx.Response) -> None:
    await look(Servers([AT], LOG), Told(varz=answer, healthz=WELL))
    assert [(name, one.value) for name, one in BROKER_UP.found()] == [(("nats:8222",), 0)]
    assert value(BROKER_HEALTHY, "nats:8222") == 0


def peer(name: str, lag: int = 0, *, current: bool = True, **more: Any) -> dict[str, Any]:
    return {"name": name, "current": current, "lag": lag, **more}


@pytest.mark.parametrize(
    ("cluster", "copies"),
    [
        (None, Copies("", 0, 0)),
        ({"leader": "n1"}, Copies("n1", 1, 0)),
        ({"leader": "n1", "replicas": [peer("n2"), peer("n3")]}, Copies("n1", 3, 0)),
        (
            {"leader": "n1", "replicas": [peer("n2"), peer("n3", 7, current=False)]},
            Copies("n1", 2, 7),
        ),
        (
            {"leader": "n1", "replicas": [peer("n2", offline=True), {"current": True}]},
            Copies("n1", 2, 0),
        ),
        ({"replicas": [peer("n2")]}, Copies("", 1, 0)),
    ],
)
def test_where_a_stream_is(cluster: object, copies: Copies) -> None:
    assert copies_of({} if cluster is None else {"cluster": cluster}) == copies


def test_several_addresses_stand_with_commas_between() -> None:
    found = Settings(nats_monitor=" http://a:8222, https://b:8222/,").monitors()
    assert found == ("http://a:8222", "https://b:8222/")


@pytest.mark.parametrize("wrong", ["a:8222", "nats://a:4222", "http://a:1,b"])
def test_what_is_no_such_address_is_refused(wrong: str) -> None:
    with pytest.raises(Permanent) as caught:
        Settings(nats_monitor=wrong).monitors()
    assert (caught.value.code, caught.value.field) == ("invalid_setting", "MILLRACE_NATS_MONITOR")


def test_a_broker_of_somebody_elses_is_not_looked_at_unasked(tmp_path: Path) -> None:
    (tmp_path / "nats.json").write_text('{"monitor": "http://127.0.0.1:1"}')
    assert Settings(data=tmp_path, nats_url="nats://a:1").monitors() == ()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"monitor": "http://127.0.0.1:1"}', ("http://127.0.0.1:1",)),
        ("{}", ()),
        ('{"monitor": 3}', ()),
        ("[]", ()),
        ("{", ()),
        (None, ()),
    ],
)
def test_the_embedded_server_is_found_by_the_data_folder(
    text: str | None, found: tuple[str, ...], tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "nats.json").write_text(text)
    assert Settings(data=tmp_path, nats_url=None).monitors() == found
