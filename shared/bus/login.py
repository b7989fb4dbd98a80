"""How a process shows who it is: a seed (nkey), a credentials file, a token; and the way there.

A seed file says whose it is in a comment, so that it may have any name where it is mounted:

    # user: sessions
    SU...

The secret is read here, goes to the client library, and stays out of every print and error.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.errors import Permanent
from shared.settings import Address, Tls
from shared.subjects.permissions import ADMIN, TENANT_PREFIX, inbox_of

_CREDS = "MILLRACE_NATS_CREDS"
_USER = re.compile(r"^#\s*user:\s*([A-Za-z0-9_-]+)\s*$", re.MULTILINE)
_SEED = re.compile(r"^\s*(SU[A-Z2-7]{56})\s*$", re.MULTILINE)
_JWT = "BEGIN NATS USER JWT"


@dataclass(frozen=True, slots=True)
class Login:
    """Who connects, and with what. `user` is empty for one that the table does not name."""

    user: str = ""
    seed: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    jwt_file: str = ""
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @property
    def deploys(self) -> bool:
        """Whether this one may create streams: the operator, and whoever has no named user."""
        return self.user in ("", ADMIN)

    @property
    def tenant(self) -> str:
        """Whose own client this is; empty for everybody who reads the streams themselves."""
        return self.user.removeprefix(TENANT_PREFIX) if self.user.startswith(TENANT_PREFIX) else ""

    @property
    def inbox(self) -> str:
        """The prefix of its inboxes."""
        return inbox_of(self.user) if self.user else "_INBOX"

    def options(self) -> dict[str, Any]:
        """The keyword arguments of `nats.connect`."""
        found: dict[str, Any] = {"inbox_prefix": self.inbox}
        if self.seed:
            found["nkeys_seed_str"] = self.seed
        if self.jwt_file:
            found["user_credentials"] = self.jwt_file
        if self.token:
            found["token"] = self.token
        if self.tls is not None:
            found["tls"] = self.tls
            found["tls_handshake_first"] = True  # see shared.bus.trust
        return found


def login_of(address: Address, name: str) -> Login:
    """Who `name` is on the bus. Where the credentials are a folder, it takes its own of it.

    Raises:
        Permanent: `invalid_credentials`, `invalid_tls`.
    """
    tls = None if address.tls is None else tls_context(address.tls)
    if address.creds is None:
        return Login(token=address.token or "", tls=tls)
    path = address.creds / f"{name}.nk" if address.creds.is_dir() else address.creds
    text = _text_of(path)
    if _JWT in text:
        return Login(jwt_file=str(path), tls=tls)
    seed = _SEED.search(text)
    if seed is None:
        raise Permanent(
            "invalid_credentials",
            f"{path} holds neither a seed (SU...) nor a user's JWT; make one with "
            "`python -m infra.nats`",
            field=_CREDS,
        )
    user = _USER.search(text)
    return Login(user[1] if user else path.stem, seed[1], tls=tls)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent(
            "invalid_credentials", f"{path} cannot be read ({type(error).__name__})", field=_CREDS
        ) from error


def seed_file(user: str, seed: str) -> bytes:
    """The bytes of a file that `login_of` reads."""
    return f"# user: {user}\n{seed}\n".encode()


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Trusts the given authority alone, and shows the client's certificate where there is one.

    Raises:
        Permanent: `invalid_tls`.
    """
    try:
        context = ssl.create_default_context(cafile=str(tls.ca))
        if tls.cert is not None:
            context.load_cert_chain(str(tls.cert), str(tls.key) if tls.key else None)
    except (OSError, ssl.SSLError) as error:
        raise Permanent(
            "invalid_tls",
            f"the certificates cannot be used ({type(error).__name__}); "
            "MILLRACE_NATS_CA, _CERT and _KEY name PEM files",
            field="MILLRACE_NATS_CA",
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
