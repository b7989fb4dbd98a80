"""The files of the bus's users: a seed each, readable by their owner alone.

<folder>/security.conf      accounts, users, permissions (public keys only)
<folder>/server.conf        a whole server that includes it
<folder>/users/<name>.nk    a user's seed: a service, `admin`, `monitor`, `tenant-<tenant>`
<folder>/issuer.nk          (local system only) signs for clients with the token
<folder>/tls/*.pem          `ca`, `server`, `client`; keys beside them
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import nkeys

from infra.nats.config import CALLOUT, MONITOR, USERS, Security, security_text
from infra.private_file import write_private
from shared.bus.login import login_of, seed_file
from shared.errors import Permanent
from shared.settings import Address
from shared.subjects.permissions import TENANT_PREFIX, tenant_user

_BETWEEN_RELOADS = 1.0
USERS_FOLDER, TLS_FOLDER, SECURITY_FILE = "users", "tls", "security.conf"


def new_seed(prefix: int = nkeys.PREFIX_BYTE_USER) -> str:
    """A new private key, as its owner keeps it."""
    return bytes(nkeys.encode_seed(os.urandom(32), prefix)).decode()


def public_of(seed: str) -> str:
    """The public key of a seed."""
    return bytes(nkeys.from_seed(bytearray(seed.encode())).public_key).decode()


def ensure_user(folder: Path, user: str) -> Path:
    """The seed file of a user; made where there is none, and never replaced."""
    path = folder / USERS_FOLDER / f"{user}.nk"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        write_private(path, seed_file(user, new_seed()))
    return path


def read_seed(path: Path) -> str:
    """The seed in a file.

    Raises:
        Permanent: `invalid_credentials`.
    """
    return login_of(Address("", None, path), "").seed


def write_security(folder: Path) -> Security:
    """Make the keys that must be there, and write down all users of the folder.

    Raises:
        Permanent: `invalid_credentials`, for a damaged file.
    """
    issuer = _issuer_file(folder)
    own = (CALLOUT,) if issuer.exists() else ()
    for user in (*USERS, MONITOR, *own):
        ensure_user(folder, user)
    paths = sorted((folder / USERS_FOLDER).glob("*.nk"))
    keys = {path.stem: public_of(read_seed(path)) for path in paths}
    security = Security(keys, public_of(ensure_issuer(folder)) if own else "")
    text = f"# Written by `python -m infra.nats`; edits are lost.\n{security_text(security)}"
    write_private(folder / SECURITY_FILE, text.encode())
    return security


def _issuer_file(folder: Path) -> Path:
    return folder / "issuer.nk"


def ensure_issuer(folder: Path) -> str:
    """The account's key that signs for clients with the token; kept beside the users' keys."""
    path = _issuer_file(folder)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_private(path, f"{new_seed(nkeys.PREFIX_BYTE_ACCOUNT)}\n".encode())
    return path.read_text(encoding="utf-8").strip()


def ensure_tenant(folder: Path, tenant: str) -> Path:
    """The seed file of a tenant's clients.

    Raises:
        Permanent: `invalid_name`, also for one that differs from another by case alone: a file
            system may take them for the same.
    """
    user = tenant_user(tenant)
    known = {path.stem for path in (folder / USERS_FOLDER).glob(f"{TENANT_PREFIX}*.nk")}
    if any(one != user and one.lower() == user.lower() for one in known):
        raise Permanent("invalid_name", f"{tenant!r} differs from another by case", field="tenant")
    return ensure_user(folder, user)


def reload(server: int) -> None:
    """Let a running server (by its process id) read its users again; connections stay.

    Twice, because nats-server 2.15 finds what a new account imports at the next reload only
    (measured; decision record 0040).

    Raises:
        OSError: there is no such process of ours.
    """
    os.kill(server, signal.SIGHUP)
    time.sleep(_BETWEEN_RELOADS)
    os.kill(server, signal.SIGHUP)
