"""The secrets of the system in containers: which files there are, and what they say.

Compose hands a file to a container as it lies on the disk, with its owner and mode, and the
services run as a user that is not on this machine. So the files can be read by all, and the folder,
which no container sees, by its owner alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import orjson

NODES = ("nats", "nats-2", "nats-3")
"""The servers of the profile `cluster`, as compose.yaml calls them."""
PODS = ("nats-0.nats", "nats-1.nats", "nats-2.nats")
"""The same in Kubernetes, as infra/k8s/base/nats.yaml calls them."""
DATABASE, USER = "millrace", "millrace"
_CHOSEN = (
    *("millrace_nats_token", "nats_route_password", "postgres_password"),
    *("minio_user", "minio_password", "milvus_password", "grafana_password"),
)
"""Secrets that are words; whoever wants others writes them into their files."""


def derived(words: Mapping[str, str], nodes: Sequence[str] = NODES) -> dict[str, str]:
    """What follows from the words: parts of the server's configuration, and addresses."""
    password = words["nats_route_password"]
    routes = ", ".join(_quoted(f"nats://route:{password}@{node}:6222") for node in nodes)
    return {
        "nats_auth.conf": f"authorization {{ token: {_quoted(words['millrace_nats_token'])} }}\n",
        "nats_routes.conf": f"authorization {{ user: route, password: {_quoted(password)} }}\n"
        f"routes: [{routes}]\n",
        "millrace_database_url": f"postgresql://{USER}:{words['postgres_password']}"
        f"@postgres:5432/{DATABASE}",
        "millrace_milvus_token": f"root:{words['milvus_password']}",
    }


def names() -> frozenset[str]:
    """Every file."""
    return frozenset(_CHOSEN) | frozenset(derived(dict.fromkeys(_CHOSEN, "x")))


def write(
    folder: Path,
    nodes: Sequence[str] = NODES,
    word: Callable[[], str] = lambda: secrets.token_hex(24),
) -> None:
    """Make what is missing. Words that are there stay; what follows from them is written anew."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    words = {name: _kept(folder / name, word) for name in _CHOSEN}
    for name, text in derived(words, nodes).items():
        _put(folder / name, text)


def _kept(path: Path, word: Callable[[], str]) -> str:
    if not path.exists():
        _put(path, word())
    return path.read_text().strip()


def _put(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)


def _quoted(value: str) -> str:
    """As JSON, which the server's configuration accepts."""
    return orjson.dumps(value).decode()
