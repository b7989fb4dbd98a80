"""Leaf nodes: the part of a server's configuration that joins two sites. Pure text.

What may cross the link is the hub's to say, and stands with its other users (`infra.nats.config`):
a site is one that may log in over a leaf node alone. Without that rule a task published at one site
would run at both, because a leaf node carries whatever anybody on the other side listens to.
"""

from __future__ import annotations

import orjson

from infra.local.servers import Joined
from infra.nats.config import ACCOUNT
from shared.subjects.sites import check_site


def hub(name: str, port: int) -> Joined:
    """The hub, and where its sites find it.

    It advertises no address: a site that was told of it would find a way around a link that is cut.
    """
    links = f'leafnodes {{ listen: "127.0.0.1:{port}", no_advertise: true }}\n'
    return Joined(domain=check_site(name), links=links)


def site(name: str, seed: str, port: int) -> Joined:
    """A site whose hub listens on a port of this machine, and knows it by the key of this seed."""
    remote = f"url: {_quoted(f'nats-leaf://127.0.0.1:{port}')}, account: {ACCOUNT}"
    links = f"leafnodes {{ remotes: [{{ {remote}, nkey: {_quoted(seed)} }}] }}\n"
    return Joined(domain=check_site(name), links=links)


def _quoted(value: str) -> str:
    return orjson.dumps(value).decode()
