"""Servers that must not be talked to: of an authority that is not ours, or without TLS.

Where an authority is set, the client begins with the handshake. nats-py would otherwise do as the
server's first words say, and whoever stands in between can leave the word TLS out of them.
"""

from __future__ import annotations

import ssl

from shared.errors import Permanent

_PLAIN = "WRONG_VERSION_NUMBER"
"""What openssl makes of a server that answers a handshake in the clear."""


def distrusted(error: Exception) -> Permanent | None:
    """The error of a connection in our words, where it is about whom we talk to."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(f"its certificate was not accepted ({error.verify_message})")
    if isinstance(error, ssl.SSLError) and getattr(error, "reason", None) == _PLAIN:
        return _untrusted("it does not begin with TLS (handshake_first in its configuration)")
    return None


def stuck(error: Exception) -> bool:
    """Whether a first connection over TLS has to be given up, and begun with another client.

    nats-py would wait for ever for the end of a connection whose handshake failed: asyncio tells
    it to the half that speaks TLS alone (measured with 2.16). By then it is closed.
    """
    return isinstance(error, OSError) and not isinstance(error, ConnectionRefusedError)


def _untrusted(reason: str) -> Permanent:
    return Permanent(
        "untrusted_server",
        f"this is not a server that MILLRACE_NATS_CA vouches for: {reason}; name the authority "
        "that signed its certificate, and call it by a name that is in there",
        field="MILLRACE_NATS_CA",
    )
