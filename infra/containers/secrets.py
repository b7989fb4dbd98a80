"""The secrets of the system in containers: which files there are, and what they say.

    security.conf        the bus's users and what they may do; public keys alone
    users/<name>.nk      a user's key: each service's container gets its own, and no other one
    tls/                 the certificate of the bus's servers, and the authority that clients trust
    nats_routes.conf     how the servers of a cluster find and know each other
    everything else      one word, or one line, as its name says

Compose hands a file to a container as it lies on the disk, with its owner and mode, and the
services run as a user that is not on this machine. So the files can be read by all, and the folder,
which no container sees, by its owner alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import orjson

from infra.nats.certificates import ensure_certificates
from infra.nats.config import MONITOR, USERS
from infra.nats.keys import SECURITY_FILE, TLS_FOLDER, USERS_FOLDER, write_security

NODES = ("nats", "nats-2", "nats-3")
"""The servers of the profile `cluster`, as compose.yaml calls them."""
PODS = ("nats-0.nats", "nats-1.nats", "nats-2.nats")
"""The same in Kubernetes, as infra/k8s/base/nats.yaml calls them."""
_HERE = ("localhost", "127.0.0.1")
"""What this machine calls a server whose port is published, or forwarded, here."""
_CLOSED = "ca.key"
"""No container has any business with the authority's own key."""
DATABASE, USER = "millrace", "millrace"
_BUS = ("nats_route_password",)
_STORES = (
    *("postgres_password", "minio_user", "minio_password"),
    *("milvus_password", "grafana_password"),
)
"""Secrets that are words; whoever wants others writes them into their files."""


def for_bus(words: Mapping[str, str], nodes: Sequence[str]) -> dict[str, str]:
    """What the configuration of a cluster's server includes: who the other servers are."""
    password = words["nats_route_password"]
    routes = (f"nats://route:{quote(password, safe='')}@{node}:6222" for node in nodes)
    return {
        "nats_routes.conf": f"authorization {{ user: route, password: {_quoted(password)} }}\n"
        f"routes: [{', '.join(map(_quoted, routes))}]\n",
    }


def for_stores(words: Mapping[str, str]) -> dict[str, str]:
    """How the services log in to the databases of compose.yaml."""
    password = quote(words["postgres_password"], safe="")
    return {
        "millrace_database_url": f"postgresql://{USER}:{password}@postgres:5432/{DATABASE}",
        "millrace_milvus_token": f"root:{words['milvus_password']}",
    }


def names() -> frozenset[str]:
    """Every file, as it is called from the folder."""
    words = dict.fromkeys((*_BUS, *_STORES), "x")
    keys = (f"{USERS_FOLDER}/{user}.nk" for user in (*USERS, MONITOR))
    pems = (f"{name}.{kind}" for name in ("ca", "server", "client") for kind in ("pem", "key"))
    tls = (f"{TLS_FOLDER}/{pem}" for pem in pems)
    made = (*words, *for_bus(words, ()), *for_stores(words), *keys, *tls, SECURITY_FILE)
    return frozenset(made)


def write(folder: Path, nodes: Sequence[str] = NODES, *, stores: bool = True) -> None:
    """Make what is missing. Words and keys that are there stay; what follows is written anew.

    Without `stores` the databases are somebody else's, and how to log in there is not touched.

    Raises:
        Permanent: `no_openssl`; `invalid_credentials`, for a damaged key.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    chosen = (*_BUS, *_STORES) if stores else _BUS
    words = {name: _kept(folder / name) for name in chosen}
    found = for_bus(words, nodes) | (for_stores(words) if stores else {})
    for name, text in found.items():
        _put(folder / name, text)
    write_security(folder)
    ensure_certificates(folder / TLS_FOLDER, (*nodes, *_HERE))
    for path in folder.rglob("*"):
        if path.is_file() and path.name != _CLOSED:
            path.chmod(0o644)


def _kept(path: Path) -> str:
    if not path.exists():
        _put(path, secrets.token_hex(24))
    return path.read_text().strip()


def _put(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)


def _quoted(value: str) -> str:
    """As JSON, which the server's configuration accepts."""
    return orjson.dumps(value).decode()
