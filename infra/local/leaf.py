"""Leaf nodes: the part of a server's configuration that joins two sites. Pure text.

What may cross the link is the hub's to say, and stands with its other users (`infra.nats.config`):
a site is one that may log in over a leaf node alone. Without that rule a task published at one site
would run at both, because a leaf node carries whatever anybody on the other side listens to.
"""

from __future__ import annotations

from pathlib import Path

import orjson

from infra.local.servers import Joined
from infra.nats.config import ACCOUNT
from shared.subjects.sites import check_site


def hub(name: str, port: int, tls: Path | None = None) -> Joined:
    """The hub, and where its sites find it; over TLS, with the PEM files of a folder.

    It advertises no address: a site that was told of it would find a way around a link that is cut.
    """
    encrypted = ""
    if tls is not None:
        files = f"cert_file: {_path(tls, 'server.pem')}, key_file: {_path(tls, 'server.key')}"
        encrypted = f", tls: {{ {files}, handshake_first: true }}"
    links = f'leafnodes {{ listen: "127.0.0.1:{port}", no_advertise: true{encrypted} }}\n'
    return Joined(domain=check_site(name), links=links)


def site(name: str, seed: str, port: int, tls: Path | None = None) -> Joined:
    """A site whose hub listens on a port of this machine, and knows it by the key of this seed.

    `tls` is the folder with the authority that signed the hub's certificate.
    """
    scheme, encrypted = "nats-leaf", ""
    if tls is not None:
        scheme = "tls"
        encrypted = f", tls: {{ ca_file: {_path(tls, 'ca.pem')}, handshake_first: true }}"
    remote = f"url: {_quoted(f'{scheme}://127.0.0.1:{port}')}, account: {ACCOUNT}"
    links = f"leafnodes {{ remotes: [{{ {remote}, nkey: {_quoted(seed)}{encrypted} }}] }}\n"
    return Joined(domain=check_site(name), links=links)


def _path(folder: Path, name: str) -> str:
    return _quoted(str(folder / name))


def _quoted(value: str) -> str:
    return orjson.dumps(value).decode()
