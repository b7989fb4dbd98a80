"""The servers of a site: what their files say, and what their clients are told."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest

from infra.local import servers
from infra.local.secured import Users
from infra.local.server import GIB, Identity
from infra.local.servers import Joined, Servers
from infra.nats.callout import Issuer
from shared.settings import BusSettings

IDENTITIES = tuple(Identity(4000 + n, "secret", 5000 + n) for n in range(3))
KEYS = Path("/d/nats/users")
USERS = Users(KEYS / "admin.nk", KEYS / "callout.nk", Issuer("SA-secret", "secret"))
CLUSTER = Servers(Path("/d"), "1s", USERS, IDENTITIES, (6000, 6001, 6002))
ONE = Servers(Path("/d"), "always", USERS, IDENTITIES[:1])


def test_each_server_of_a_cluster_has_a_store_of_its_own_and_knows_all_routes() -> None:
    texts = [CLUSTER.config(n, 8 * GIB) for n in range(3)]
    assert [f'store_dir: "/d/nats-{n}"' in text for n, text in enumerate(texts, 1)] == [True] * 3
    assert [f'server_name: "nats-{n}"' in text for n, text in enumerate(texts, 1)] == [True] * 3
    for text in texts:
        assert text.count("@127.0.0.1:600") == 3
        assert 'include "../nats/security.conf"' in text
        assert "token" not in text
        assert "sync_interval: 1s" in text


def test_a_client_is_told_of_every_server() -> None:
    assert CLUSTER.address.servers == [f"nats://127.0.0.1:400{n}" for n in range(3)]
    assert CLUSTER.environment() == {
        "MILLRACE_NATS_URL": CLUSTER.address.url,
        "MILLRACE_STREAM_REPLICAS": "3",
        "MILLRACE_NATS_MONITOR": ",".join(one.health_url for one in IDENTITIES),
    }


def test_one_server_has_no_routes_and_is_called_as_under_make_run() -> None:
    assert ONE.names == ("nats",)
    assert "cluster" not in ONE.config(0, GIB)
    assert 'server_name: "millrace"' in ONE.config(0, GIB)
    assert 'include "security.conf"' in ONE.config(0, GIB)


def test_what_joins_it_to_another_site_is_composed_with_the_rest() -> None:
    joined = Joined("hub", "leafnodes { port: 1 }\n")
    text = Servers(Path("/d"), "1s", USERS, IDENTITIES[:1], (), joined).config(0, GIB)
    assert 'domain: "hub"' in text
    assert text.endswith("leafnodes { port: 1 }\n")


def test_the_supervisor_is_the_operator_by_its_key_and_no_program_is_told_the_token() -> None:
    assert CLUSTER.address.creds == CLUSTER.keys / "admin.nk"
    assert CLUSTER.address.token is None
    assert "secret" not in "".join(CLUSTER.environment().values())


@pytest.mark.parametrize("found", [CLUSTER, ONE])
def test_prints_keep_the_token(found: Servers) -> None:
    assert "secret" not in f"{found!r} {found.address!r}"


def test_the_ports_that_are_chosen_are_all_different(tmp_path: Path) -> None:
    found = servers.choose(tmp_path, 3, "1s")
    ports = [*found.routes, *(port for one in found.identities for port in (one.port, one.monitor))]
    assert len(set(ports)) == 9


def test_all_servers_of_a_site_have_the_same_users(tmp_path: Path) -> None:
    found = servers.choose(tmp_path, 3, "1s")
    again = servers.choose(tmp_path, 3, "1s")
    assert found.users.admin == again.users.admin
    assert found.users.admin.read_text() == again.users.admin.read_text()
    for n in range(3):
        config = tmp_path / found.names[n] / "server.conf"
        (include,) = re.findall('include "(.*)"', found.config(n, GIB))
        assert (config.parent / include).resolve() == tmp_path / "nats" / "security.conf"
    assert (tmp_path / "nats" / "security.conf").is_file()


def test_a_client_reads_from_the_data_folder_how_often_everything_is_kept(tmp_path: Path) -> None:
    (tmp_path / "nats.json").write_bytes(CLUSTER.client_file())
    found = BusSettings(data=tmp_path, nats_url=None).address()
    assert (found.url, found.token, found.replicas) == (CLUSTER.address.url, "secret", 3)


def test_a_damaged_count_of_replicas_is_no_running_system(tmp_path: Path) -> None:
    body = orjson.dumps({"url": "nats://x", "token": "t", "replicas": "many"})
    (tmp_path / "nats.json").write_bytes(body)
    with pytest.raises(Exception, match="no running system"):
        BusSettings(data=tmp_path, nats_url=None).address()
