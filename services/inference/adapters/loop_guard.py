"""Owns the end of a process whose event loop stands still.

A library that is called on the loop may block it for ever: TensorRT-LLM shuts itself down where it
reads an error of its engine, and waits there for processes that may be dead. Then nothing that
lives on the loop can help, and nobody outside sees more than silence. A thread does the counting,
in its own turns, so that a process which was stopped for a while is not taken for a blocked one.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

LIMIT_S = 60
"""Nothing that belongs on a loop takes a minute; work of seconds is no reason to end."""
_TURN = 1.0


def leave() -> None:
    """End the process, with a word on standard error: orderly ends need the loop."""
    sys.stderr.write("inference: the event loop stands still; this process ends\n")
    sys.stderr.flush()
    os._exit(1)


class LoopGuard:
    """Watches the running loop within a `with`; calls `blocked` once if it does not turn."""

    def __init__(
        self, turns: int = LIMIT_S, blocked: Callable[[], None] = leave, turn_s: float = _TURN
    ) -> None:
        self._limit, self._blocked, self._turn = turns, blocked, turn_s
        self._loop = asyncio.get_running_loop()
        self._seen, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop-guard", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()

    def _watch(self) -> None:
        missed = 0
        while missed < self._limit:
            self._seen.clear()
            try:
                self._loop.call_soon_threadsafe(self._seen.set)
            except RuntimeError:  # the loop is closed
                return
            if self._done.wait(self._turn):
                return
            missed = 0 if self._seen.is_set() else missed + 1
        self._blocked()
