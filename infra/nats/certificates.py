"""A certificate authority of one's own, and certificates by it, with the `openssl` command.

For one installation whose parts trust each other and nobody else. Who has a certificate authority
already puts its files into the folder instead.
"""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from shared.errors import Permanent

DAYS = 825
"""Longer than this some clients refuse a server's certificate."""
AUTHORITY_DAYS = 3650
RENEW_DAYS = 60
"""What ends sooner than this is made anew."""
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_SIGNED = {"server": "serverAuth,clientAuth", "client": "clientAuth"}
"""What a certificate is for; a server of a cluster is a client of the others."""


def ensure_certificates(folder: Path, hosts: Sequence[str], days: int = DAYS) -> None:
    """Make `ca.pem`, `server.pem` and `client.pem` with their keys, where they are not there yet.

    Those that end within 60 days are made anew, all of them with a new authority where that is
    what ends; where its key is missing the authority is somebody else's, who renews them.

    Raises:
        Permanent: `no_openssl`, `invalid_host`.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    names = ",".join(map(_alternative, hosts))
    if _ends(folder, "ca"):
        for name in (*_SIGNED, "ca"):  # what it signed first: half of this can be gone on with
            (folder / f"{name}.pem").unlink(missing_ok=True)
    if not (folder / "ca.pem").exists():
        _openssl(
            folder, "req", "-x509", *_KEY, "-keyout", "ca.key", "-out", "ca.pem",
            "-days", str(AUTHORITY_DAYS), "-subj", "/CN=Millrace",
            "-addext", "basicConstraints=critical,CA:TRUE,pathlen:0",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
    for name, usage in _SIGNED.items():
        certificate = folder / f"{name}.pem"
        if not certificate.exists() or _ends(folder, name):
            certificate.unlink(missing_ok=True)  # its key is written first: they end together
            alternatives = f"subjectAltName={names}" if name == "server" else ""
            _sign(folder, name, days, (f"extendedKeyUsage={usage}", alternatives))


def _ends(folder: Path, name: str) -> bool:
    """Whether a certificate that was made here, and can be made anew here, ends soon."""
    if not (folder / "ca.key").exists() or shutil.which("openssl") is None:
        return False
    soon = str(RENEW_DAYS * 24 * 3600)
    found = _run(folder, "x509", "-in", f"{name}.pem", "-noout", "-checkend", soon)
    return found.returncode == 1 and b"will expire" in found.stdout


def _sign(folder: Path, name: str, days: int, extensions: Sequence[str]) -> None:
    _openssl(
        folder, "req", "-x509", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.pem",
        "-days", str(days), "-subj", f"/CN=millrace-{name}", "-CA", "ca.pem", "-CAkey", "ca.key",
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
    done = _run(folder, *arguments)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise Permanent("no_openssl", f"openssl failed: {''.join(reason)}")


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Keys are written under a mask that leaves them to their owner.

    Not by a `preexec_fn`: with one, Python forks in place of vfork, and gRPC (of Milvus, in the
    same process) runs its own code in the child and may abort it.
    """
    try:
        return subprocess.run(  # noqa: S603  # arguments are checked above, and no shell reads them
            ("openssl", *arguments),  # noqa: S607  # wherever the system has it
            cwd=folder, check=False, capture_output=True, umask=0o077,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise Permanent(
            "no_openssl", "certificates are made with the openssl command: install it"
        ) from error
