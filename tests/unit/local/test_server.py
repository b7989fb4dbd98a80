"""The embedded nats-server's configuration and identity."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from infra.local import server
from infra.local.server import GIB, Identity, Node, Store

IDENTITY = Identity(4333, 'to"ken\n')


def test_the_server_listens_on_loopback_only_and_wants_the_token() -> None:
    text = server.config_text(Identity(4333, "secret"), Store(Path("/d/nats"), "always", 5 * GIB))
    assert 'listen: "127.0.0.1:4333"' in text
    assert 'authorization { token: "secret" }' in text
    assert 'store_dir: "/d/nats"' in text
    assert "sync_interval: always" in text
    assert f"max_file_store: {5 * GIB}" in text


def test_values_cannot_break_out_of_their_string() -> None:
    text = server.config_text(IDENTITY, Store(Path('/a "b"'), "2m", GIB))
    assert r'token: "to\"ken\n"' in text
    assert r'store_dir: "/a \"b\""' in text


@pytest.mark.parametrize("value", ["always", "100ms", "1s", "2m", "1h"])
def test_sync_takes_always_or_a_duration(value: str) -> None:
    assert server.check_sync(value) == value


@pytest.mark.parametrize("value", ["", "never", "2", "2m\nport: 1", "-1s", "1d"])
def test_sync_refuses_everything_else(value: str) -> None:
    with pytest.raises(ValueError, match="MILLRACE_SYNC"):
        server.check_sync(value)


def test_an_identity_survives_its_file() -> None:
    assert server.read_identity(server.identity_file(IDENTITY)) == IDENTITY


@pytest.mark.parametrize("damaged", [b"", b"[]", b'{"port": 1}', b'{"port": "x", "token": "t"}'])
def test_a_damaged_identity_is_none(damaged: bytes) -> None:
    assert server.read_identity(damaged) is None


def test_clients_get_an_address_and_the_token() -> None:
    found = orjson.loads(server.client_file(IDENTITY.url, IDENTITY.token))
    assert found == {"url": "nats://127.0.0.1:4333", "token": IDENTITY.token}


def test_they_are_told_whom_to_trust_and_how_often_everything_is_kept() -> None:
    found = orjson.loads(server.client_file("nats://a", "t", Path("/d/ca.pem"), 3))
    assert found == {"url": "nats://a", "token": "t", "replicas": 3, "ca": "/d/ca.pem"}


@pytest.mark.parametrize(("free", "bound"), [(0, GIB), (GIB, GIB), (8 * GIB, 6 * GIB)])
def test_file_streams_leave_a_quarter_of_the_disk(free: int, bound: int) -> None:
    assert server.max_file(free) == bound


def test_a_node_of_a_cluster_names_itself_and_all_routes() -> None:
    node = Node("n1", 6222, ("127.0.0.1:6221", "127.0.0.1:6222"))
    text = server.config_text(Identity(4333, "secret"), Store(Path("/d"), "1s", GIB), node)
    assert 'server_name: "n1"' in text
    assert 'listen: "127.0.0.1:6222"' in text
    assert '"nats://route:secret@127.0.0.1:6221"' in text
    assert "cluster" not in server.config_text(IDENTITY, Store(Path("/d"), "1s", GIB))


def test_the_health_check_listens_where_the_identity_says() -> None:
    store = Store(Path("/d"), "always", GIB)
    assert 'http: "127.0.0.1:8222"' in server.config_text(Identity(1, "t", 8222), store)
    assert "http" not in server.config_text(Identity(1, "t"), store)
    assert Identity(1, "t", 8222).health_url == "http://127.0.0.1:8222"
