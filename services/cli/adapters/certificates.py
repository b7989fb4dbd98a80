"""Asks the servers of the bus how long their certificates still hold."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import ParseResult

from services.cli.core.checks import Check, certificate_check

_PATIENCE = 3.0


async def certificates_check(
    servers: Iterable[ParseResult], context: ssl.SSLContext, now: float
) -> Check:
    """The one that ends first: servers read theirs when they start, and do not start together."""
    left = []
    for server in servers:
        try:
            left.append(await _ends(server, context) - now)
        except (OSError, TimeoutError) as error:
            why = getattr(error, "verify_message", "") or type(error).__name__  # "has expired"
            found = f"{server.hostname}:{server.port}: {why}"
            return Check("tls", "failed", found, "see that server's log, or restart it")
    return certificate_check(min(left))


async def _ends(server: ParseResult, context: ssl.SSLContext) -> float:
    """Unix time at which a server's certificate ends; its handshake comes first."""
    async with asyncio.timeout(_PATIENCE):
        _, writer = await asyncio.open_connection(server.hostname, server.port, ssl=context)
        try:
            return ssl.cert_time_to_seconds(writer.get_extra_info("peercert")["notAfter"])
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
