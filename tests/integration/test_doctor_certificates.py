"""What the doctor says of the certificates of the bus."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import ParseResult, urlparse

import pytest

from infra.nats.certificates import ensure_certificates
from services.cli.adapters.certificates import certificates_check
from shared.bus.login import tls_context
from shared.clock import now
from shared.settings import Tls

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]


@asynccontextmanager
async def speaking_tls(folder: Path, days: int) -> AsyncIterator[ParseResult]:
    """A server with a certificate that ends in so many days."""
    ensure_certificates(folder, ["127.0.0.1"], days)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context) as server:
        yield urlparse(f"tls://me:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}")


async def test_the_certificate_that_ends_first_decides(tmp_path: Path) -> None:
    async with (
        speaking_tls(tmp_path / "old", 10) as old,
        speaking_tls(tmp_path / "new", 800) as new,
    ):
        trusting = tls_context(Tls(tmp_path / "new" / "ca.pem"))
        trusting.load_verify_locations(tmp_path / "old" / "ca.pem")
        alone = await certificates_check([new], trusting, now())
        both = await certificates_check([new, old], trusting, now())
    assert (alone.outcome, alone.found) == ("ok", "the certificate ends in 799 days")
    assert (both.outcome, both.found) == ("warning", "the certificate ends in 9 days")


async def test_one_that_cannot_be_believed_or_reached_is_named_without_its_secret(
    tmp_path: Path,
) -> None:
    async with speaking_tls(tmp_path / "other", 800) as server:
        ensure_certificates(tmp_path / "own", ["127.0.0.1"])
        strange = tls_context(Tls(tmp_path / "own" / "ca.pem"))
        found = await certificates_check([server], strange, now())
    assert found.outcome == "failed"
    assert "issuer certificate" in found.found
    gone = await certificates_check([server], strange, now())
    assert gone.outcome == "failed"
    assert f"127.0.0.1:{server.port}: ConnectionRefusedError" in gone.found
    assert "secret" not in found.found + gone.found
