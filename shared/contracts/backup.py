"""What a backup says about itself (`manifest.json` in its folder)."""

from __future__ import annotations

from typing import Any

from shared.contracts.base import Message


class StreamFile(Message, frozen=True):
    """One stream of a backup: its file's name, size in bytes and SHA-256, and what is in it."""

    stream: str
    file: str
    bytes: int
    sha256: str
    messages: int
    first: int
    last: int
    config: dict[str, Any]
    state: dict[str, Any]


class Manifest(Message, frozen=True):
    """What a backup consists of. `began` and `ended` in epoch seconds."""

    format: int
    began: float
    ended: float
    streams: tuple[StreamFile, ...]

    @property
    def messages(self) -> int:
        """Over all streams."""
        return sum(one.messages for one in self.streams)
