"""A stream as bytes, and back: the server's own snapshots.

The server sends a stream in chunks, and goes on when those that ask for it are answered; it is
given one back in the same way (JetStream API, `STREAM.SNAPSHOT` and `STREAM.RESTORE`). What is in
the chunks is the server's business: message blocks as they lie on its disk, so that sequences and
times stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import orjson
from nats.aio.msg import Msg

from shared.bus.connect import ApiError, Bus
from shared.errors import Broken, Transient

CHUNK = 128 << 10
_PATIENCE = 30.0
"""Seconds without a chunk, or without an answer to one, after which the server counts as away."""

_AGAIN_AFTER = (0.2, 0.5, 1.0)
_EXISTS = 10130
"""a stream of this name is there already (error of a restore)"""

Described = dict[str, Any]
"""What a restore needs beside the bytes: the stream's `config` and its `state`."""


async def take(bus: Bus, stream: str, write: Callable[[bytes], object]) -> Described:
    """Hand a stream, as it is now, to `write` in chunks; its configuration and state.

    Raises:
        ApiError: there is no such stream, or it is in memory.
        Transient: `snapshot_interrupted`: the server stopped sending.
        Broken: `snapshot_failed`: the server says why.
    """
    arrived: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = bus.nc.new_inbox()
    taking = await bus.nc.subscribe(inbox, cb=arrived.put)
    try:
        order = {"deliver_subject": inbox, "chunk_size": CHUNK, "jsck": True}
        answer = await bus.api(f"STREAM.SNAPSHOT.{stream}", order)
        while (chunk := await _next(arrived, stream)).data:
            write(chunk.data)
            if chunk.reply:  # not with each chunk: the server asks when its window is full
                await bus.send(chunk.reply, b"")
        _check_end(stream, chunk)
    finally:
        await taking.unsubscribe()
    return {"config": answer["config"], "state": answer["state"]}


async def _next(arrived: asyncio.Queue[Msg], stream: str) -> Msg:
    try:
        return await asyncio.wait_for(arrived.get(), _PATIENCE)
    except TimeoutError as error:
        raise Transient(
            "snapshot_interrupted", f"the server sends no more of {stream}; take it again"
        ) from error


def _check_end(stream: str, last: Msg) -> None:
    """An empty message ends a snapshot; with a status other than 204 it failed."""
    headers = last.headers or {}
    status = headers.get("Status", "204")
    if status not in ("", "204"):
        reason = headers.get("Description", status)
        raise Broken("snapshot_failed", f"the server gave up on {stream}: {reason}")


async def put(bus: Bus, described: Described, chunks: Iterable[bytes]) -> Described:
    """Make a stream from a snapshot; the state that the server found in it.

    The stream must not exist.

    Raises:
        ApiError: it exists, or its subjects belong to another stream.
        Broken: `restore_failed`: the server refuses the bytes.
        Transient: `request_timeout` or `no_responders`.
    """
    name = described["config"]["name"]
    place = await _place(bus, name, described)
    for chunk in chunks:
        _refused(name, await bus.request(place, chunk, _PATIENCE))
    last = await bus.request(place, b"", _PATIENCE)
    _refused(name, last)
    state: Described = orjson.loads(last)["state"]
    return state


async def _place(bus: Bus, name: str, described: Described) -> str:
    """Where the server wants the chunks.

    Right after a stream was removed its folder may still be on the disk, and the server cannot
    make another one there (seen with 2.15: "error creating store"); a moment later it can.
    """
    call = f"STREAM.RESTORE.{name}"
    for delay in _AGAIN_AFTER:
        try:
            return str((await bus.api(call, described))["deliver_subject"])
        except ApiError as error:
            if error.number == _EXISTS:
                raise
            await asyncio.sleep(delay)
    return str((await bus.api(call, described))["deliver_subject"])


def _refused(name: str, answer: bytes) -> None:
    error = orjson.loads(answer).get("error") if answer else None
    if error:
        raise Broken("restore_failed", f"{name}: {error.get('description')}")


async def state_of(bus: Bus, stream: str) -> Described | None:
    """A stream's state (`messages`, `bytes`, `first_seq`, `last_seq`); none where it is not."""
    try:
        state: Described = (await bus.api(f"STREAM.INFO.{stream}"))["state"]
    except ApiError as error:
        if error.missing:
            return None
        raise
    return state


async def drop(bus: Bus, stream: str) -> None:
    """Remove a stream with all that is in it; harmless where there is none."""
    try:
        await bus.api(f"STREAM.DELETE.{stream}")
    except ApiError as error:
        if not error.missing:
            raise


async def consumers_of(bus: Bus, stream: str) -> list[str]:
    """The names of a stream's consumers."""
    found: list[str] = []
    while True:
        page = await bus.api(f"CONSUMER.NAMES.{stream}", {"offset": len(found)})
        names = page.get("consumers") or []
        found += names
        if not names or len(found) >= page["total"]:
            return found


async def drop_consumer(bus: Bus, stream: str, name: str) -> None:
    """Remove a consumer; harmless where there is none."""
    try:
        await bus.api(f"CONSUMER.DELETE.{stream}.{name}")
    except ApiError as error:
        if not error.missing:
            raise
