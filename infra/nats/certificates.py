"""A certificate authority of one's own, and certificates by it, with the `openssl` command.

For one installation whose parts trust each other and nobody else. Who has a certificate authority
already puts its files into the folder instead.
"""

from __future__ import annotations

import ipaddress
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from shared.errors import Permanent

DAYS = 825
"""Longer than this some clients refuse a server's certificate."""
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def ensure_certificates(folder: Path, hosts: Sequence[str]) -> None:
    """Make `ca.pem`, `server.pem` and `client.pem` with their keys, where they are not there yet.

    Raises:
        Permanent: `no_openssl`, `invalid_host`.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    names = ",".join(map(_alternative, hosts))
    if not (folder / "ca.pem").exists():
        _openssl(
            folder, "req", "-x509", *_KEY, "-keyout", "ca.key", "-out", "ca.pem",
            "-days", str(DAYS), "-subj", "/CN=Millrace",
            "-addext", "basicConstraints=critical,CA:TRUE,pathlen:0",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
    # a server of a cluster is a client of the others
    for name, usage in (("server", "serverAuth,clientAuth"), ("client", "clientAuth")):
        if not (folder / f"{name}.pem").exists():
            alternatives = f"subjectAltName={names}" if name == "server" else ""
            _sign(folder, name, (f"extendedKeyUsage={usage}", alternatives))


def _sign(folder: Path, name: str, extensions: Sequence[str]) -> None:
    _openssl(
        folder, "req", "-x509", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.pem",
        "-days", str(DAYS), "-subj", f"/CN=millrace-{name}", "-CA", "ca.pem", "-CAkey", "ca.key",
        "-addext", "basicConstraints=critical,CA:FALSE",
        *(part for one in extensions if one for part in ("-addext", one)),
    )  # fmt: skip


def _alternative(host: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(host)}"
    except ValueError:
        pass
    if not host or not all(part.replace("-", "").isalnum() for part in host.split(".")):
        raise Permanent(
            "invalid_host", f"{host!r} is neither a host name nor an address", field="host"
        )
    return f"DNS:{host}"


def _openssl(folder: Path, *arguments: str) -> None:
    """Keys are written under a mask that leaves them to their owner."""
    try:
        subprocess.run(  # noqa: S603  # arguments are checked above, and no shell reads them
            ("openssl", *arguments),  # noqa: S607  # wherever the system has it
            cwd=folder, check=True, capture_output=True, preexec_fn=_private,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise Permanent(
            "no_openssl", "certificates are made with the openssl command: install it"
        ) from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise Permanent("no_openssl", f"openssl failed: {''.join(reason)}") from error


def _private() -> None:
    os.umask(0o077)
