"""The configuration that joins two sites."""

from __future__ import annotations

from infra.local import leaf
from shared.subjects.sites import link_permissions


def test_the_hub_lets_a_site_in_over_a_leaf_node_only_and_says_what_may_cross() -> None:
    found = leaf.hub("hub", "to ken", 7000, {"edge": 'pass"word'})
    assert found.links == 'leafnodes { listen: "127.0.0.1:7000", no_advertise: true }\n'
    assert found.security.count("user: ") == 2
    assert '{ user: system, password: "to ken" }' in found.security
    assert r'password: "pass\"word"' in found.security
    assert "allowed_connection_types: [LEAFNODE]" in found.security
    for subject in link_permissions("edge", "hub").publish:
        assert f'"{subject}"' in found.security
    assert (found.domain, found.user) == ("hub", "system")


def test_a_site_knows_where_its_hub_is_and_keeps_its_own_token() -> None:
    found = leaf.site("edge", "secret", 7000)
    assert 'url: "nats-leaf://edge:secret@127.0.0.1:7000"' in found.links
    assert (found.domain, found.security, found.user) == ("edge", "", "")
    assert "secret" not in repr(found)
