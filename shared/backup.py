"""Backups: every durable stream as a file in a folder, and a whole server made from one.

What is guaranteed. The streams are taken one after another while work goes on, in an order in
which nothing refers to what is missing: first what points into the log (checkpoints, timers, dead
letters), then the log, then what the log points to (bodies, agents, memories, documents). So a
restored system is the state at the moment the log was taken; what had happened beyond it happens
again, once, because everything is idempotent by the log. Nothing that was acknowledged before the
backup began is missing. Projections are not in it: the ledger and the index read their streams
again.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from shared.bus import snapshots
from shared.bus.connect import Bus
from shared.bus.kv import KeyValue
from shared.bus.topology import ensure
from shared.clock import now
from shared.contracts.backup import Manifest, StreamFile
from shared.contracts.base import decode, encode
from shared.errors import Permanent, Transient
from shared.subjects import (
    BLOBS,
    BUCKETS,
    CHECKPOINTS,
    DEAD,
    REQUESTS,
    RUNS,
    STREAMS,
    TIMERS,
    WORKERS,
)
from shared.subjects.streams import FIRED, STRAYS, UNDERTAKER

FORMAT = 1
MANIFEST = "manifest.json"
KEPT_CONSUMERS = frozenset({FIRED.name, UNDERTAKER.name, STRAYS.name})
"""These go on where they were, because their effects are in the backup. All others begin again:
projections are built anew, sessions begin at their checkpoints, and what a deletion has missed is
erased once more."""

SERVICES = ("sessions", "router", "tools", "retrieval", "ledger")
"""Who answers `health.<name>` while it runs. Workers show themselves in their bucket; the ingress
keeps nothing of the log that a restore could contradict."""
_ASKED_FOR = 1.0

Said = Callable[[str, int], None]
"""Told after each chunk: the stream, and its bytes so far."""


def durable_streams() -> tuple[str, ...]:
    """The streams of a backup, in the order in which they must be taken."""
    first = (f"KV_{CHECKPOINTS.name}", f"KV_{REQUESTS.name}", TIMERS, DEAD, RUNS, BLOBS)
    others = [row.name for row in STREAMS if row.storage == "file"]
    others += [f"KV_{bucket.name}" for bucket in BUCKETS if not bucket.memory]
    return first + tuple(name for name in others if name not in first)


async def backup(bus: Bus, folder: Path, said: Said = lambda _stream, _bytes: None) -> Manifest:
    """Write a backup into a new folder. It is there whole or not at all.

    Raises:
        Permanent: `folder_exists`.
        Transient: `snapshot_interrupted`, `no_responders`: nothing was left behind.
    """
    draft, began = _draft(folder), now()
    try:
        files = [await _take(bus, stream, draft, said) for stream in durable_streams()]
        manifest = Manifest(format=FORMAT, began=began, ended=now(), streams=tuple(files))
        _finish(draft, folder, manifest)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def _draft(folder: Path) -> Path:
    """Where the backup is written until it is whole; what an earlier try left there is removed."""
    if folder.exists():
        detail = f"{folder} is there already; name a new folder"
        raise Permanent("folder_exists", detail, field="folder")
    draft = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True, mode=0o700)
    return draft


def _finish(draft: Path, folder: Path, manifest: Manifest) -> None:
    (draft / MANIFEST).write_bytes(encode(manifest))
    for path in draft.iterdir():  # the name must not be on the disk before what it stands for
        with path.open("rb") as file:
            os.fsync(file.fileno())
    draft.replace(folder)


class _Sink:
    """A file that knows its size and digest."""

    def __init__(self, file: BinaryIO, stream: str, said: Said) -> None:
        self._file, self._stream, self._said = file, stream, said
        self.size, self.digest = 0, hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self.digest.update(chunk)
        self.size += len(chunk)
        self._said(self._stream, self.size)


async def _take(bus: Bus, stream: str, folder: Path, said: Said) -> StreamFile:
    name = f"{stream}.snapshot"
    with (folder / name).open("wb") as file:
        sink = _Sink(file, stream, said)
        described = await snapshots.take(bus, stream, sink.write)
    state = described["state"]
    return StreamFile(
        stream=stream,
        file=name,
        bytes=sink.size,
        sha256=sink.digest.hexdigest(),
        messages=state["messages"],
        first=state["first_seq"],
        last=state["last_seq"],
        **described,
    )


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a backup, after all of its files were compared with it.

    Raises:
        Permanent: `no_backup`, `unknown_format` or `damaged_backup`, with the file's name.
    """
    try:
        found = decode((folder / MANIFEST).read_bytes(), Manifest)
    except (OSError, Permanent) as error:
        raise Permanent(
            "no_backup", f"{folder} has no readable {MANIFEST}", field="folder"
        ) from error
    if found.format != FORMAT:
        detail = f"{folder} has format {found.format}; this version reads {FORMAT}"
        raise Permanent("unknown_format", detail, field="folder")
    for one in found.streams:
        _compare(folder, one)
    return found


def _compare(folder: Path, one: StreamFile) -> None:
    if Path(one.file).name != one.file:
        raise Permanent(
            "damaged_backup", f"{one.file} is no name of a file in {folder}", field="folder"
        )
    try:
        with (folder / one.file).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Permanent("damaged_backup", f"{one.file} cannot be read", field="folder") from error
    if digest != one.sha256:
        raise Permanent("damaged_backup", f"{one.file} is not what was written", field="folder")


async def restore(
    bus: Bus, folder: Path, *, force: bool = False, said: Said = lambda _stream, _bytes: None
) -> Manifest:
    """Make every stream of a backup on a server where no service runs.

    Raises:
        Permanent: as `read_manifest`; `services_running`; `not_empty` unless `force`, which
            gives up what the server has.
        Broken: `restore_failed`; run it again with `force`.
    """
    manifest = read_manifest(folder)
    await _nobody_works(bus)
    if not force:
        await _is_empty(bus, manifest)
    for one in manifest.streams:
        await _put(bus, folder, one, said)
    await ensure(bus)
    return manifest


async def _nobody_works(bus: Bus) -> None:
    """Services hold what they read in memory; a log that changes under them would be another."""
    answers = await asyncio.gather(*(_answers(bus, name) for name in SERVICES))
    names = [name for name, there in zip(SERVICES, answers, strict=True) if there]
    if await snapshots.state_of(bus, f"KV_{WORKERS.name}") is not None:
        names += [entry.key for entry in await KeyValue(bus, WORKERS).entries() if entry.value]
    if names:
        raise Permanent(
            "services_running",
            f"{', '.join(names)} run on this server; stop the system and try again in ten seconds",
        )


async def _answers(bus: Bus, service: str) -> bool:
    try:
        await bus.request(f"health.{service}", b"", _ASKED_FOR)
    except Transient:
        return False
    return True


async def _is_empty(bus: Bus, manifest: Manifest) -> None:
    for one in manifest.streams:
        state = await snapshots.state_of(bus, one.stream)
        if state and state["messages"]:
            raise Permanent(
                "not_empty",
                f"{one.stream} holds {state['messages']} messages; restore onto an empty server, "
                "or give up what is there with --force",
            )


async def _put(bus: Bus, folder: Path, one: StreamFile, said: Said) -> None:
    await snapshots.drop(bus, one.stream)
    config = one.config | {"num_replicas": bus.replicas}
    with (folder / one.file).open("rb") as file:
        state = await snapshots.put(
            bus, {"config": config, "state": one.state}, _chunks(file, one.stream, said)
        )
    found = (state["messages"], state["last_seq"])
    if found != (one.messages, one.last):
        raise Permanent(
            "damaged_backup",
            f"{one.stream} has {found[0]} messages up to {found[1]} after the restore, not "
            f"{one.messages} up to {one.last}",
        )
    for name in await snapshots.consumers_of(bus, one.stream):
        if name not in KEPT_CONSUMERS:
            await snapshots.drop_consumer(bus, one.stream, name)


def _chunks(file: BinaryIO, stream: str, said: Said) -> Iterator[bytes]:
    done = 0
    while chunk := file.read(snapshots.CHUNK):
        yield chunk
        done += len(chunk)
        said(stream, done)
