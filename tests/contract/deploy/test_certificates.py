"""Certificates of the bus: made where there are none, and anew before they end."""

from __future__ import annotations

import subprocess
from pathlib import Path

from infra.nats.certificates import ensure_certificates
from tests.contract.deploy.needs import OPENSSL

pytestmark = OPENSSL
HOSTS = ["localhost", "127.0.0.1"]


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def changed(folder: Path, before: dict[str, bytes]) -> set[str]:
    return {name for name, content in read(folder).items() if before.get(name) != content}


def test_they_are_made_once(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, HOSTS)
    before = read(tmp_path)
    ensure_certificates(tmp_path, HOSTS)
    assert not changed(tmp_path, before)
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.glob("*.key"))


def test_those_that_end_soon_are_made_anew_by_the_same_authority(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, HOSTS, days=10)
    before = read(tmp_path)
    ensure_certificates(tmp_path, HOSTS)
    assert changed(tmp_path, before) == {"server.pem", "server.key", "client.pem", "client.key"}
    trusted(tmp_path)
    before = read(tmp_path)
    ensure_certificates(tmp_path, HOSTS)
    assert not changed(tmp_path, before)


def test_an_authority_that_ends_takes_all_with_it(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, HOSTS)
    shorten(tmp_path)
    before = read(tmp_path)
    ensure_certificates(tmp_path, HOSTS)
    assert changed(tmp_path, before) == set(before)
    trusted(tmp_path)


def test_whoever_brings_an_authority_renews_it(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, HOSTS, days=10)
    shorten(tmp_path)
    (tmp_path / "ca.key").unlink()
    before = read(tmp_path)
    ensure_certificates(tmp_path, HOSTS)
    assert not changed(tmp_path, before)


def test_what_a_killed_renewal_has_left_is_gone_on_with(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, HOSTS)
    (tmp_path / "server.pem").unlink()
    ensure_certificates(tmp_path, HOSTS)
    trusted(tmp_path)


def shorten(folder: Path) -> None:
    """The same authority, with ten days to go."""
    openssl(folder, "req", "-x509", "-key", "ca.key", "-out", "ca.pem", "-days", "10",
            "-subj", "/CN=Millrace")  # fmt: skip


def trusted(folder: Path) -> None:
    openssl(folder, "verify", "-CAfile", "ca.pem", "server.pem", "client.pem")


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(("openssl", *arguments), cwd=folder, check=True, capture_output=True)
