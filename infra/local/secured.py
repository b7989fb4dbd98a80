"""The users of the servers that run here: made at the start, one key for each service."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from infra.nats.callout import Issuer, serve
from infra.nats.config import CALLOUT
from infra.nats.keys import SECURITY_FILE, USERS_FOLDER, ensure_issuer, write_security
from shared.settings import Address
from shared.subjects.permissions import ADMIN
from shared.telemetry import Log


def include(folder: str = "") -> str:
    """In the place of the token, in the server's configuration; `folder` is seen from its own."""
    return f'include "{folder}{SECURITY_FILE}"\n'


INCLUDE = include()
"""Where the users lie beside the configuration."""


@dataclass(frozen=True, slots=True)
class Users:
    """The keys of those whom the supervisor itself needs."""

    admin: Path
    callout: Path
    issuer: Issuer = field(repr=False)


def prepare(folder: Path, token: str) -> Users:
    """Make what is missing of the keys in the broker's folder, and write down who may do what.

    Raises:
        Permanent: `invalid_credentials`, for a damaged file.
    """
    issuer = Issuer(ensure_issuer(folder), token)
    write_security(folder)
    keys = folder / USERS_FOLDER
    return Users(keys / f"{ADMIN}.nk", keys / f"{CALLOUT}.nk", issuer)


async def admit(url: str, users: Users, log: Log) -> None:
    """Let clients with the token of `nats.json` in, for as long as the system runs."""
    await serve(Address(url, None, users.callout), users.issuer, log)
