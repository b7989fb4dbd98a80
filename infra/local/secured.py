"""The users of the servers that run here, and TLS where it is asked for: made at the start.

One key for each service. The operator is whoever has the token of `nats.json`, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from infra.nats.callout import Issuer, serve
from infra.nats.certificates import ensure_certificates
from infra.nats.config import CALLOUT, route_tls_text, tls_text
from infra.nats.keys import SECURITY_FILE, TLS_FOLDER, USERS_FOLDER, ensure_issuer, write_security
from shared.settings import Address, Tls
from shared.subjects.permissions import ADMIN
from shared.telemetry import Log

HOSTS = ("127.0.0.1", "localhost")
"""What clients of this machine call its servers."""


def include(folder: str = "") -> str:
    """In the place of the token, in the server's configuration; `folder` is seen from its own."""
    return f'include "{folder}{SECURITY_FILE}"\n'


INCLUDE = include()
"""Where the users lie beside the configuration."""


@dataclass(frozen=True, slots=True)
class Users:
    """The keys of those whom the supervisor itself needs; `tls` is the folder of PEM files."""

    admin: Path
    callout: Path
    issuer: Issuer = field(repr=False)
    tls: Path | None = None

    @property
    def ca(self) -> Path | None:
        """Whom clients trust, where there is TLS."""
        return self.tls / "ca.pem" if self.tls else None

    def operator(self, url: str, replicas: int = 1) -> Address:
        """How the supervisor reaches the servers."""
        return Address(url, None, self.admin, replicas, self._trust())

    def answering(self, url: str) -> Address:
        """How it reaches them to let others in."""
        return Address(url, None, self.callout, tls=self._trust())

    def _trust(self) -> Tls | None:
        return Tls(self.ca) if self.ca else None

    def server_text(self, folder: str = "") -> str:
        """What a server's configuration says of both; `folder`: as `include` has it."""
        return include(folder) + tls_text(self.tls, both=False)

    def route_text(self) -> str:
        """What it says of the connections among the servers of a cluster."""
        return route_tls_text(self.tls)


def prepare(folder: Path, token: str, *, tls: bool = False) -> Users:
    """Make what is missing in the broker's folder, and write down who may do what.

    Raises:
        Permanent: `invalid_credentials`, for a damaged file; `no_openssl`.
    """
    issuer = Issuer(ensure_issuer(folder), token)
    write_security(folder)
    keys, pem = folder.absolute() / USERS_FOLDER, folder.absolute() / TLS_FOLDER
    if tls:
        ensure_certificates(pem, HOSTS)
    return Users(keys / f"{ADMIN}.nk", keys / f"{CALLOUT}.nk", issuer, pem if tls else None)


async def admit(url: str, users: Users, log: Log) -> None:
    """Let clients with the token of `nats.json` in, for as long as the system runs."""
    await serve(users.answering(url), users.issuer, log)
