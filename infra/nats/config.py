"""The part of the server's configuration that says who may do what. Pure: text from the table.

    account MILLRACE    the system: one user per service, the operator, and at a hub its sites
    account T_<tenant>  a tenant's clients; its own tasks, orders, questions and feeds, nothing else
    account SYS         monitoring: the server's own events and statistics
    account AUTH        (local system only) answers for clients with the token of `nats.json`

Decision record 0040 has the reasons.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

import orjson

from shared.errors import Permanent
from shared.subjects.permissions import (
    ADMIN,
    GRANTS,
    SHARED_WITH_TENANTS,
    TENANT_PREFIX,
    Permissions,
    permissions_of,
    tenant_access,
    tenant_permissions,
)
from shared.subjects.sites import SITE_PREFIX, link_permissions, site_user

ACCOUNT = "MILLRACE"
MONITOR, CALLOUT = "monitor", "callout"
USERS = (ADMIN, *GRANTS)
"""Every user of the system's own account."""
_DURATION = re.compile(r"always|\d+(ms|s|m|h)")


@dataclass(frozen=True, slots=True)
class Security:
    """Public keys by user; `issuer` is the account key that signs for clients with a token.

    `hub` is the domain of a server that sites join.
    """

    keys: Mapping[str, str]
    issuer: str = ""
    hub: str = ""

    @property
    def tenants(self) -> tuple[str, ...]:
        """Those that have clients of their own."""
        return self._named(TENANT_PREFIX)

    @property
    def sites(self) -> tuple[str, ...]:
        """Those that may join."""
        return self._named(SITE_PREFIX)

    def _named(self, prefix: str) -> tuple[str, ...]:
        found = (user for user in self.keys if user.startswith(prefix))
        return tuple(sorted(user.removeprefix(prefix) for user in found))


def security_text(security: Security) -> str:
    """Accounts, users and permissions. Strings are quoted as JSON, which the format accepts.

    Raises:
        Permanent: `invalid_name`, for sites without the name of their hub.
    """
    if security.sites and not security.hub:
        raise Permanent("invalid_name", "the hub that sites join has no name", field="hub")
    tenants = (_tenant(security, tenant) for tenant in security.tenants)
    return f"""accounts {{
{_system(security)}
{"".join(tenants)}  SYS {{ users: [{{ nkey: {security.keys[MONITOR]} }}] }}
{_callout_account(security)}}}
system_account: SYS
{_authorization(security)}"""


def _system(security: Security) -> str:
    own = (_user(security.keys[user], permissions_of(user)) for user in USERS)
    users = "\n".join((*own, *(_site(security, site) for site in security.sites)))
    services = "\n".join(
        f"      {{ service: {_quoted(one)} }}" for one in SHARED_WITH_TENANTS.services
    )
    streams = "\n".join(
        f"      {{ stream: {_quoted(one)} }}" for one in SHARED_WITH_TENANTS.streams
    )
    return f"""  {ACCOUNT} {{
    jetstream: enabled
    users: [
{users}
    ]
    exports: [
{services}
{streams}
    ]
  }}"""


def _site(security: Security, site: str) -> str:
    """A site's server: over a leaf node alone, and of the account what its link needs."""
    allowed = link_permissions(site, security.hub)
    permissions = Permissions(allowed.publish, allowed.subscribe)
    return _user(security.keys[site_user(site)], permissions, "LEAFNODE")


def _tenant(security: Security, tenant: str) -> str:
    access = tenant_access(tenant)
    key = security.keys[f"{TENANT_PREFIX}{tenant}"]
    imports = [*_imports("service", access.services), *_imports("stream", access.streams)]
    return f"""  {_quoted(f"T_{tenant}")} {{
    users: [
{_user(key, tenant_permissions(tenant))}
    ]
    imports: [
{chr(10).join(imports)}
    ]
  }}
"""


def _imports(kind: str, subjects: Iterable[str]) -> list[str]:
    return [
        f"      {{ {kind}: {{ account: {ACCOUNT}, subject: {_quoted(one)} }} }}" for one in subjects
    ]


def _user(key: str, permissions: Permissions, only: str = "") -> str:
    """`only` is the one kind of connection that this user may have; any, by default."""
    denied = f", deny: {_list(permissions.publish_denied)}" if permissions.publish_denied else ""
    kinds = f", allowed_connection_types: [{only}]" if only else ""
    return f"""      {{ nkey: {key}{kinds}, permissions: {{
        publish: {{ allow: {_list(permissions.publish)}{denied} }}
        subscribe: {{ allow: {_list(permissions.subscribe)} }}
      }} }}"""


def _list(subjects: Iterable[str]) -> str:
    return f"[{', '.join(map(_quoted, subjects))}]"


def _callout_account(security: Security) -> str:
    if not security.issuer:
        return ""
    return f"  AUTH {{ users: [{{ nkey: {security.keys[CALLOUT]} }}] }}\n"


def _authorization(security: Security) -> str:
    """The time-out covers a callout on a busy machine.

    The callout is asked about every leaf node, known to the configuration or not, but for those
    that are named here.
    """
    if not security.issuer:
        return ""
    known = [security.keys[CALLOUT], *(security.keys[site_user(one)] for one in security.sites)]
    return f"""authorization {{
  timeout: 5
  auth_callout {{
    issuer: {security.issuer}
    account: AUTH
    auth_users: [{", ".join(known)}]
    allowed_accounts: [AUTH]
  }}
}}
"""


def _quoted(value: str) -> str:
    return orjson.dumps(value).decode()


def check_sync(value: str) -> str:
    """`value`, if it is `always` or a duration such as `2m`.

    Raises:
        ValueError: it is neither; it would also be a way to inject lines into the file.
    """
    if not _DURATION.fullmatch(value):
        raise ValueError(f"MILLRACE_SYNC must be 'always' or a duration such as 2m, not {value!r}")
    return value


@dataclass(frozen=True, slots=True)
class Server:
    """One server for containers: where it listens and keeps its streams, as it sees the paths."""

    listen: str = "0.0.0.0:4222"  # in a container, whose network says who gets there
    store: str = "/data"
    sync: str = "always"
    tls: PurePath | None = None
    """The folder of its PEM files."""
    monitor: str = ""


def server_text(server: Server) -> str:
    """A whole configuration, which includes the file with the users."""
    monitoring = f"http: {_quoted(server.monitor)}\n" if server.monitor else ""
    return f"""# Written by `python -m infra.nats write`; edits are lost.
server_name: millrace
listen: {_quoted(server.listen)}
{monitoring}jetstream {{
  store_dir: {_quoted(server.store)}
  max_memory_store: 1GB
  max_file_store: 100GB
  # One fsync per fact: what is acknowledged survives a power loss (ADR 0004).
  sync_interval: {check_sync(server.sync)}
}}
{tls_text(server.tls)}include "security.conf"
"""


def tls_text(folder: PurePath | None, *, both: bool = True) -> str:
    """TLS with the PEM files of a folder; `both`: clients have to show a certificate, too.

    Both sides begin with the handshake, so that no word in the clear can talk a client out of it.
    The server could leave that to the client (`auto`), but then it speaks first where a client
    is slower than 50 ms (measured).
    """
    if folder is None:
        return ""
    return f"""tls {{
  cert_file: {_quoted(str(folder / "server.pem"))}
  key_file: {_quoted(str(folder / "server.key"))}
  ca_file: {_quoted(str(folder / "ca.pem"))}
  verify: {"true" if both else "false"}
  handshake_first: true
  timeout: 5
}}
"""


def route_tls_text(folder: PurePath | None) -> str:
    """TLS among the servers of a cluster, who show each other the same certificate."""
    if folder is None:
        return ""
    return f"""  tls {{
    cert_file: {_quoted(str(folder / "server.pem"))}
    key_file: {_quoted(str(folder / "server.key"))}
    ca_file: {_quoted(str(folder / "ca.pem"))}
    verify: true
    timeout: 5
  }}
"""
