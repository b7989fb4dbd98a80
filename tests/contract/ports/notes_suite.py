"""What every memory of notes must do. Inherit and give a `notes` fixture."""

from __future__ import annotations

from services.tools.ports import Memory
from shared.contracts.base import SessionRef

HERE = SessionRef("t", "s")
KEYS = ("badge number", "key.with.dots", "*", "> all", "\u4e2d\u6587", "a" * 200)


class NotesSuite:
    """The guarantees of `Memory`, one test each."""

    async def test_what_is_kept_is_found(self, notes: Memory) -> None:
        for number, key in enumerate(KEYS):
            await notes.put(HERE, key, f"value {number}")
        found = [await notes.get(HERE, key) for key in KEYS]
        assert found == [f"value {number}" for number in range(len(KEYS))]

    async def test_what_is_not_there_is_none(self, notes: Memory) -> None:
        assert await notes.get(HERE, "nothing") is None

    async def test_the_last_write_wins(self, notes: Memory) -> None:
        for value in ("one", "two", "two"):
            await notes.put(HERE, "key", value)
        assert await notes.get(HERE, "key") == "two"

    async def test_sessions_and_tenants_are_apart(self, notes: Memory) -> None:
        await notes.put(HERE, "key", "mine")
        for other in (SessionRef("t", "other"), SessionRef("other", "s")):
            assert await notes.get(other, "key") is None
