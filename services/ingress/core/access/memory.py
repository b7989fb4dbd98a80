"""Room for the bodies of requests that are read and worked on at the same time. Pure.

A body may have megabytes, and a client may open hundreds of connections: what they hold together
is bounded. Small bodies have a part of the room that large ones cannot take.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.errors import Transient

SMALL = 64 << 10
"""Bytes up to which a body is a small one."""
_PART = 8
"""The small ones have an eighth of the room."""


@dataclass(slots=True)
class Pool:
    """Bytes, and how many of them are taken."""

    size: int
    taken: int = 0

    def take(self, size: int) -> None:
        """Take some.

        Raises:
            Transient: `busy`.
        """
        if self.taken + size > self.size:
            raise Transient(
                "busy",
                f"the bodies of other requests fill the {self.size} bytes of memory for them; "
                "try again in a moment",
                retry_after=1.0,
            )
        self.taken += size


class Room:
    """The memory of one process for bodies."""

    def __init__(self, size: int) -> None:
        self._small, self._large = Pool(size // _PART), Pool(size - size // _PART)

    @property
    def taken(self) -> int:
        """Bytes that are held now."""
        return self._small.taken + self._large.taken

    def hold(self, declared: int) -> Held:
        """Room for a body of as many bytes as it says, 0 where it does not say.

        It is taken as the bytes come: who only promises a large body keeps nobody out.

        Raises:
            Transient: `busy`, where there is none even now.
        """
        if declared > SMALL and self._large.taken + declared > self._large.size:
            self._large.take(declared)
        return Held(self._small, self._large)


@dataclass(slots=True)
class Held:
    """What one body has of the room."""

    small: Pool
    large: Pool
    size: int = field(default=0, init=False)

    def grow(self, more: int) -> None:
        """More of it has come.

        Raises:
            Transient: `busy`.
        """
        size = self.size + more
        if size <= SMALL:
            self.small.take(more)
        elif self.size <= SMALL:
            self.large.take(size)
            self.small.taken -= self.size
        else:
            self.large.take(more)
        self.size = size

    def free(self) -> None:
        """It is needed no more; harmless when repeated."""
        if self.size > SMALL:
            self.large.taken -= self.size
        else:
            self.small.taken -= self.size
        self.size = 0
