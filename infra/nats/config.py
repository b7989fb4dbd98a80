"""The part of the server's configuration that says who may do what. Pure: text from the table.

    account MILLRACE    the system: one user per service, and the operator
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

ACCOUNT = "MILLRACE"
MONITOR, CALLOUT = "monitor", "callout"
USERS = (ADMIN, *GRANTS)
"""Every user of the system's own account."""
_DURATION = re.compile(r"always|\d+(ms|s|m|h)")


@dataclass(frozen=True, slots=True)
class Security:
    """Public keys by user; `issuer` is the account key that signs for clients with a token."""

    keys: Mapping[str, str]
    issuer: str = ""

    @property
    def tenants(self) -> tuple[str, ...]:
        """Those that have clients of their own."""
        found = (user for user in self.keys if user.startswith(TENANT_PREFIX))
        return tuple(sorted(user.removeprefix(TENANT_PREFIX) for user in found))


def security_text(security: Security) -> str:
    """Accounts, users and permissions. Strings are quoted as JSON, which the format accepts."""
    tenants = (_tenant(security, tenant) for tenant in security.tenants)
    return f"""accounts {{
{_system(security)}
{"".join(tenants)}  SYS {{ users: [{{ nkey: {security.keys[MONITOR]} }}] }}
{_callout_account(security)}}}
system_account: SYS
{_authorization(security)}"""


def _system(security: Security) -> str:
    users = "\n".join(_user(security.keys[user], permissions_of(user)) for user in USERS)
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


def _user(key: str, permissions: Permissions) -> str:
    denied = f", deny: {_list(permissions.publish_denied)}" if permissions.publish_denied else ""
    return f"""      {{ nkey: {key}, permissions: {{
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
    """The time-out covers a callout on a busy machine."""
    if not security.issuer:
        return ""
    return f"""authorization {{
  timeout: 5
  auth_callout {{
    issuer: {security.issuer}
    account: AUTH
    auth_users: [{security.keys[CALLOUT]}]
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


def tls_text(folder: PurePath | None) -> str:
    """TLS with the PEM files of a folder; clients have to show a certificate, too."""
    if folder is None:
        return ""
    return f"""tls {{
  cert_file: {_quoted(str(folder / "server.pem"))}
  key_file: {_quoted(str(folder / "server.key"))}
  ca_file: {_quoted(str(folder / "ca.pem"))}
  verify: true
  timeout: 5
}}
"""
