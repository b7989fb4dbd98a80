"""Lets clients of this machine in with the token of `nats.json`, though the server has users.

nats-server takes a token or users, not both. It asks instead, for everybody whom its configuration
does not know (ADR-26 of the NATS project): a signed question on a system subject of an account of
its own, and a signed answer that says which account the client belongs to. Whoever has the token is
the operator of this system: it stands in a file of mode 600, beside the operator's key.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import nkeys
import orjson
from nats.aio.msg import Msg

from infra.nats.config import ACCOUNT
from shared import clock
from shared.bus.connect import open_bus
from shared.errors import Permanent
from shared.settings import Address
from shared.telemetry import Log

SUBJECT = "$SYS.REQ.USER.AUTH"
_UNLIMITED = {"subs": -1, "data": -1, "payload": -1}


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs, and for which token."""

    seed: str = field(repr=False)
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Question:
    """What the server asks: whether a client with this token may come in, and under which key."""

    user: str
    server: str
    token: str = field(repr=False)


def read_question(body: bytes) -> Question:
    """Of the server's signed request. It comes on a subject that only the server can publish to.

    Raises:
        Permanent: `invalid_message`.
    """
    try:
        claims = orjson.loads(_unpacked(body.split(b".")[1]))
        asked = claims["nats"]
        options = asked.get("connect_opts") or {}
        return Question(
            str(asked["user_nkey"]),
            str(asked["server_id"]["id"]),
            str(options.get("auth_token", "")),
        )
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Permanent("invalid_message", "this is no question of a server") from error


def answer(question: Question, issuer: Issuer, now: float) -> bytes:
    """The signed answer: a user of the system's account, or a refusal."""
    right = hmac.compare_digest(question.token.encode(), issuer.token.encode())
    said: dict[str, Any] = {"type": "authorization_response", "version": 2}
    if right and issuer.token:
        rights = {"type": "user", "version": 2, **_UNLIMITED}
        user = {"sub": question.user, "aud": ACCOUNT, "name": "local", "nats": rights}
        said["jwt"] = signed(user, issuer.seed, now).decode()
    else:
        said["error"] = "unknown token"
    return signed({"sub": question.user, "aud": question.server, "nats": said}, issuer.seed, now)


def signed(claims: Mapping[str, Any], seed: str, now: float) -> bytes:
    """A JWT as NATS signs them: Ed25519 by an nkey, which is named as the issuer."""
    pair = nkeys.from_seed(bytearray(seed.encode()))
    full = {**claims, "iss": bytes(pair.public_key).decode(), "iat": int(now)}
    digest = hashlib.sha256(json.dumps(full, sort_keys=True).encode()).digest()
    full["jti"] = base64.b32encode(digest).decode().rstrip("=")
    head = _packed(b'{"typ":"JWT","alg":"ed25519-nkey"}')
    text = head + b"." + _packed(orjson.dumps(full))
    return text + b"." + _packed(bytes(pair.sign(text)))


def _packed(body: bytes) -> bytes:
    return base64.urlsafe_b64encode(body).rstrip(b"=")


def _unpacked(text: bytes) -> bytes:
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))


async def serve(address: Address, issuer: Issuer, log: Log) -> None:
    """Answer the server, until this is cancelled."""
    async with open_bus(address, "callout", log) as bus:

        async def asked(message: Msg) -> None:
            try:
                reply = answer(read_question(message.data), issuer, clock.now())
            except Permanent as error:
                log.warning("callout.unreadable", error=error.code)
                return
            await bus.send(message.reply, reply)

        await bus.nc.subscribe(SUBJECT, cb=asked)
        await asyncio.Event().wait()
