"""The servers of a site: what their files say, and what their clients are told."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from infra.local import servers
from infra.local.server import GIB, Identity
from infra.local.servers import Joined, Servers
from shared.settings import BusSettings

IDENTITIES = tuple(Identity(4000 + n, "secret", 5000 + n) for n in range(3))
CLUSTER = Servers(Path("/d"), "1s", IDENTITIES, (6000, 6001, 6002))
ONE = Servers(Path("/d"), "always", IDENTITIES[:1])


def test_each_server_of_a_cluster_has_a_store_of_its_own_and_knows_all_routes() -> None:
    texts = [CLUSTER.config(n, 8 * GIB) for n in range(3)]
    assert [f'store_dir: "/d/nats-{n}"' in text for n, text in enumerate(texts, 1)] == [True] * 3
    assert [f'server_name: "nats-{n}"' in text for n, text in enumerate(texts, 1)] == [True] * 3
    for text in texts:
        assert text.count("@127.0.0.1:600") == 3
        assert "sync_interval: 1s" in text


def test_a_client_is_told_of_every_server() -> None:
    assert CLUSTER.address.servers == [f"nats://127.0.0.1:400{n}" for n in range(3)]
    assert CLUSTER.environment() == {
        "MILLRACE_NATS_URL": CLUSTER.address.url,
        "MILLRACE_NATS_TOKEN": "secret",
        "MILLRACE_STREAM_REPLICAS": "3",
        "MILLRACE_NATS_MONITOR": ",".join(one.health_url for one in IDENTITIES),
    }


def test_one_server_has_no_routes_and_is_called_as_under_make_run() -> None:
    assert ONE.names == ("nats",)
    assert "cluster" not in ONE.config(0, GIB)
    assert 'server_name: "millrace"' in ONE.config(0, GIB)


def test_what_joins_it_to_another_site_is_composed_with_the_rest() -> None:
    joined = Joined("hub", "authorization { users: [] }\n", "site", "leafnodes { port: 1 }\n")
    text = Servers(Path("/d"), "1s", IDENTITIES[:1], (), joined).config(0, GIB)
    assert "token" not in text
    assert 'domain: "hub"' in text
    assert text.endswith("leafnodes { port: 1 }\n")


def test_with_users_the_site_logs_in_as_one_and_no_token_is_told() -> None:
    address = Servers(Path("/d"), "1s", IDENTITIES[:1], (), Joined(user="site")).address
    assert address.servers == ["nats://site:secret@127.0.0.1:4000"]
    assert address.token is None


@pytest.mark.parametrize(
    "found", [CLUSTER, ONE, Servers(Path("/d"), "1s", IDENTITIES, (), Joined(user="u"))]
)
def test_prints_keep_the_token(found: Servers) -> None:
    assert "secret" not in f"{found!r} {found.address!r}"


def test_the_ports_that_are_chosen_are_all_different(tmp_path: Path) -> None:
    found = servers.choose(tmp_path, 3, "1s")
    ports = [*found.routes, *(port for one in found.identities for port in (one.port, one.monitor))]
    assert len(set(ports)) == 9


def test_a_client_reads_from_the_data_folder_how_often_everything_is_kept(tmp_path: Path) -> None:
    (tmp_path / "nats.json").write_bytes(servers.client_file(CLUSTER.address))
    found = BusSettings(data=tmp_path, nats_url=None).address()
    assert (found.url, found.token, found.replicas) == (CLUSTER.address.url, "secret", 3)


def test_a_damaged_count_of_replicas_is_no_running_system(tmp_path: Path) -> None:
    body = orjson.dumps({"url": "nats://x", "token": "t", "replicas": "many"})
    (tmp_path / "nats.json").write_bytes(body)
    with pytest.raises(Exception, match="no running system"):
        BusSettings(data=tmp_path, nats_url=None).address()
