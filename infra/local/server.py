"""The embedded nats-server's identity and configuration. Pure; `broker` does the IO."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import orjson

from infra.nats.config import check_sync as check_sync

GIB = 1 << 30
MEMORY_STORE = GIB
"""Bound of all memory streams: WORK and TOKENS reserve 384 MiB, and the server counts a stream
twice while it checks a repeated creation."""
GO_MEMORY_LIMIT = "1536MiB"
"""The Go heap returns its block cache at this size (measured: 555 to 211 MB, facts of NATS)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Where the server listens and what a client must present; kept between starts.

    `monitor` is the port of its health check, another one at each start; 0 for none.
    """

    port: int
    token: str
    monitor: int = 0

    @property
    def url(self) -> str:
        """The address for clients on this machine."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def health_url(self) -> str:
        """Where the server says how it is."""
        return f"http://127.0.0.1:{self.monitor}"


@dataclass(frozen=True, slots=True)
class Store:
    """Where and how the server keeps its streams."""

    folder: Path
    sync: str
    max_file: int
    domain: str = ""
    """What its JetStream is called by servers that are joined to it by leaf nodes."""


@dataclass(frozen=True, slots=True)
class Node:
    """One server of a cluster: its own name, its port for the others, and all of those ports."""

    name: str
    port: int
    routes: tuple[str, ...]
    """`host:port` of every server, this one included; it knows itself."""
    tls: str = ""
    """What its connections to the others are encrypted with, as text."""


def read_identity(text: bytes) -> Identity | None:
    """The identity in a file's bytes; None where they are damaged."""
    try:
        found = orjson.loads(text)
        return Identity(int(found["port"]), str(found["token"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def max_file(free: int) -> int:
    """The bound of all file streams: three quarters of the free disk, at least 1 GiB."""
    return max(GIB, free * 3 // 4)


def _quoted(value: str) -> str:
    return orjson.dumps(value).decode()


def config_text(
    identity: Identity, store: Store, node: Node | None = None, security: str = ""
) -> str:
    """The configuration file. Strings are quoted as JSON, which the format accepts.

    `security` says who may do what (`infra.nats.config`); without it the token may do everything.
    """
    admitted = security or f"authorization {{ token: {_quoted(identity.token)} }}\n"
    return f"""# Written at every start; edits are lost.
server_name: {_quoted(node.name if node else store.domain or "millrace")}
listen: {_quoted(f"127.0.0.1:{identity.port}")}
{_monitoring(identity)}{admitted}jetstream {{
  store_dir: {_quoted(str(store.folder))}
{_domain(store)}  max_memory_store: {MEMORY_STORE}
  max_file_store: {store.max_file}
  sync_interval: {check_sync(store.sync)}
}}
{_cluster(node, identity) if node else ""}"""


def _domain(store: Store) -> str:
    return f"  domain: {_quoted(store.domain)}\n" if store.domain else ""


def _monitoring(identity: Identity) -> str:
    return f'http: "127.0.0.1:{identity.monitor}"\n' if identity.monitor else ""


def _cluster(node: Node, identity: Identity) -> str:
    """The servers find one another over the routes, with the clients' token as password."""
    routes = ", ".join(_quoted(f"nats://route:{identity.token}@{one}") for one in node.routes)
    return f"""cluster {{
  name: millrace
  listen: {_quoted(f"127.0.0.1:{node.port}")}
{node.tls}  authorization {{ user: route, password: {_quoted(identity.token)} }}
  routes: [{routes}]
}}
"""


def client_file(
    url: str, token: str, ca: Path | None = None, replicas: int = 1, monitor: str = ""
) -> bytes:
    """The bytes of `nats.json`: what a client needs to connect, and `ca` where there is TLS.

    `monitor` is where to ask how the server is.
    """
    more: dict[str, object] = {} if replicas == 1 else {"replicas": replicas}
    if ca is not None:
        more["ca"] = str(ca)
    if monitor:
        more["monitor"] = monitor
    return orjson.dumps({"url": url, "token": token, **more})


def identity_file(identity: Identity) -> bytes:
    """The bytes that `read_identity` reads."""
    return orjson.dumps({"port": identity.port, "token": identity.token})
