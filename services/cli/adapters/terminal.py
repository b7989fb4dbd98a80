"""The terminal: Ctrl-C as something to wait for, and questions that do not block the loop.

Input is awaited with the loop's reader instead of a thread, because a thread inside `input()`
cannot be abandoned and would keep the process from ending.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

_CHUNK = 65_536


class SystemTerminal:
    """An input (standard input) and the interrupt signal of this process."""

    def __init__(self, source: int = 0) -> None:
        self._source = source
        self._held = b""
        self._ended = False

    @property
    def interactive(self) -> bool:
        """Whether both ends of the conversation are a terminal."""
        return os.isatty(self._source) and sys.stderr.isatty()

    async def interrupted(self) -> None:
        """Return at the next Ctrl-C."""
        loop = asyncio.get_running_loop()
        pressed = asyncio.Event()
        loop.add_signal_handler(signal.SIGINT, pressed.set)
        try:
            await pressed.wait()
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    async def confirm(self, question: str) -> bool:
        """Ask on standard error; anything but yes is a no."""
        answer = await self.line(f"{question} [y/N] ")
        return (answer or "").strip().lower() in ("y", "yes")

    async def line(self, prompt: str) -> str | None:
        """A line of input; None at its end or after Ctrl-C.

        What came behind the line is kept: a pipe delivers many at once.
        """
        if self.interactive:
            sys.stderr.write(prompt)
            sys.stderr.flush()
        while b"\n" not in self._held and not self._ended:
            chunk = await self._chunk()
            if chunk is None:
                return None
            self._ended = not chunk
            self._held += chunk
        if not self._held:
            return None
        line, _, self._held = self._held.partition(b"\n")
        return line.decode("utf-8", "replace")

    async def _chunk(self) -> bytes | None:
        """What there is to read, empty at the end; None after Ctrl-C."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes | None] = loop.create_future()

        def settle(value: bytes | None) -> None:
            if not answer.done():
                answer.set_result(value)

        try:
            loop.add_reader(self._source, lambda: settle(os.read(self._source, _CHUNK)))
        except PermissionError:  # a regular file cannot be awaited, and never makes us wait
            return os.read(self._source, _CHUNK)
        loop.add_signal_handler(signal.SIGINT, settle, None)
        try:
            return await answer
        finally:
            loop.remove_reader(self._source)
            loop.remove_signal_handler(signal.SIGINT)
