"""The configuration that joins two sites."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.local import leaf
from infra.nats.config import Security, security_text
from infra.nats.keys import (
    ensure_issuer,
    ensure_site,
    new_seed,
    public_of,
    read_seed,
    write_security,
)
from shared.errors import Permanent
from shared.subjects.sites import link_permissions


def test_the_hub_lets_a_site_in_over_a_leaf_node_only_and_says_what_may_cross(
    tmp_path: Path,
) -> None:
    key = public_of(read_seed(ensure_site(tmp_path, "edge", "hub")))
    text = security_text(write_security(tmp_path))
    user = text[text.index(f"nkey: {key}") : text.index("exports:")]
    assert "allowed_connection_types: [LEAFNODE]" in user
    allowed = link_permissions("edge", "hub")
    for subject in (*allowed.publish, *allowed.subscribe):
        assert f'"{subject}"' in user
    assert user.count('"') == 2 * len((*allowed.publish, *allowed.subscribe))
    assert text.index("MILLRACE {") < text.index(key)


def test_nobody_but_a_site_is_bound_to_leaf_nodes(tmp_path: Path) -> None:
    assert "LEAFNODE" not in security_text(write_security(tmp_path))
    ensure_site(tmp_path, "edge", "hub")
    assert security_text(write_security(tmp_path)).count("LEAFNODE") == 1


def test_the_callout_is_not_asked_about_a_site(tmp_path: Path) -> None:
    ensure_issuer(tmp_path)
    key = public_of(read_seed(ensure_site(tmp_path, "edge", "hub")))
    text = security_text(write_security(tmp_path))
    asked = text[text.index("auth_users") :].splitlines()[0]
    assert key in asked


def test_whoever_writes_the_users_again_keeps_the_sites(tmp_path: Path) -> None:
    ensure_site(tmp_path, "edge", "hub")
    assert write_security(tmp_path) == write_security(tmp_path)
    assert write_security(tmp_path).sites == ("edge",)


def test_sites_without_the_name_of_their_hub_are_an_error(tmp_path: Path) -> None:
    ensure_site(tmp_path, "edge", "hub")
    keys = write_security(tmp_path).keys
    with pytest.raises(Permanent, match="no name"):
        security_text(Security(keys))


@pytest.mark.parametrize("name", ["7", "a.b", "EDGE", ""])
def test_the_name_of_a_site_is_checked(tmp_path: Path, name: str) -> None:
    ensure_site(tmp_path, "edge", "hub")
    with pytest.raises(Permanent, match="invalid_name"):
        ensure_site(tmp_path, name, "hub")


def test_a_hub_says_nothing_of_its_address() -> None:
    found = leaf.hub("hub", 7000)
    assert found.links == 'leafnodes { listen: "127.0.0.1:7000", no_advertise: true }\n'
    assert found.domain == "hub"


def test_a_site_knows_where_its_hub_is_and_shows_its_own_key() -> None:
    seed = new_seed()
    found = leaf.site("edge", seed, 7000)
    assert 'url: "nats-leaf://127.0.0.1:7000", account: MILLRACE' in found.links
    assert f'nkey: "{seed}"' in found.links
    assert found.domain == "edge"
    assert seed not in repr(found)


def test_a_link_over_tls_is_encrypted_from_its_first_byte_and_trusts_the_hubs_authority() -> None:
    pem = Path("/d/tls")
    at_hub, at_site = leaf.hub("hub", 7000, pem), leaf.site("edge", new_seed(), 7000, pem)
    assert 'cert_file: "/d/tls/server.pem"' in at_hub.links
    assert 'url: "tls://127.0.0.1:7000"' in at_site.links
    assert 'ca_file: "/d/tls/ca.pem"' in at_site.links
    for found in (at_hub, at_site):
        assert "handshake_first: true" in found.links
