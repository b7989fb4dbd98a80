"""Owns the in-memory twin of the notes."""

from __future__ import annotations

from shared.contracts.base import SessionRef


class LocalMemory:
    """Keeps the guarantees of the port, except that nothing survives the process."""

    def __init__(self) -> None:
        self._notes: dict[tuple[SessionRef, str], str] = {}

    async def put(self, ref: SessionRef, key: str, value: str) -> None:
        """The last write wins."""
        self._notes[ref, key] = value

    async def get(self, ref: SessionRef, key: str) -> str | None:
        """What was kept."""
        return self._notes.get((ref, key))
