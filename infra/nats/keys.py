"""The files of the bus's users: a seed each, readable by their owner alone.

<folder>/security.conf      accounts, users, permissions (public keys only)
<folder>/server.conf        a whole server that includes it
<folder>/users/<name>.nk    a user's seed: a service, `admin`, `monitor`, `tenant-<tenant>`,
                            `site-<site>`
<folder>/domain             (hub only) the name under which sites know it
<folder>/issuer.nk          (local system only) signs for clients with the token
<folder>/tls/*.pem          `ca`, `server`, `client`; keys beside them
"""

from __future__ import annotations

import os
from pathlib import Path

import nkeys

from infra.nats.config import CALLOUT, MONITOR, USERS, Security, security_text
from infra.private_file import write_private
from shared.bus.login import login_of, seed_file
from shared.errors import Permanent
from shared.settings import Address
from shared.subjects.permissions import TENANT_PREFIX, tenant_user
from shared.subjects.sites import SITE_PREFIX, check_site, site_user

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
    security = Security(keys, public_of(ensure_issuer(folder)) if own else "", hub_of(folder))
    text = f"# Written by `python -m infra.nats`; edits are lost.\n{security_text(security)}"
    write_private(folder / SECURITY_FILE, text.encode())
    return security


def hub_of(folder: Path) -> str:
    """The name under which sites know the hub of this folder; empty where none has a key."""
    file = _domain_file(folder)
    return file.read_text(encoding="utf-8").strip() if file.exists() else ""


def _domain_file(folder: Path) -> Path:
    return folder / "domain"


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
    return _ensure_named(folder, tenant_user(tenant), TENANT_PREFIX, "tenant")


def ensure_site(folder: Path, site: str, hub: str) -> Path:
    """The seed file as which a site joins the hub of this folder, whose domain is `hub`.

    Raises:
        Permanent: `invalid_name`.
    """
    domain = f"{check_site(hub)}\n".encode()
    path = _ensure_named(folder, site_user(site), SITE_PREFIX, "site")
    write_private(_domain_file(folder), domain)
    return path


def _ensure_named(folder: Path, user: str, prefix: str, what: str) -> Path:
    known = {path.stem for path in (folder / USERS_FOLDER).glob(f"{prefix}*.nk")}
    if any(one != user and one.lower() == user.lower() for one in known):
        name = user.removeprefix(prefix)
        raise Permanent("invalid_name", f"{name!r} differs from another by case", field=what)
    return ensure_user(folder, user)
