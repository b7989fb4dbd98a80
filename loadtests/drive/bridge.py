"""One asyncio loop in a thread of its own, and how a greenlet waits for what runs there.

Nothing is monkey-patched in this process (`LOCUST_SKIP_MONKEY_PATCH`), so the thread is a real one
and asyncio is what it always is. Greenlets belong to the main thread: the loop never touches them.
It leaves what is done in a queue and wakes gevent's loop with an async watcher, the one thing of
gevent's that another thread may call.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any, Self, cast

import gevent
import uvloop
from gevent.event import AsyncResult

_STOPPED_WITHIN = 10.0


class Bridge:
    """Use it as a context manager; `call` may be called by any number of greenlets."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="asyncio", daemon=True)
        self._done: deque[tuple[AsyncResult[Any], Future[Any]]] = deque()
        self._watcher = gevent.get_hub().loop.async_()

    def __enter__(self) -> Self:
        self._watcher.start(self._deliver)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOPPED_WITHIN)
        self._watcher.stop()
        self._watcher.close()
        if not self._thread.is_alive():
            self._loop.close()

    def call[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Run it in the loop; only the calling greenlet waits. One that is killed cancels it."""
        result: AsyncResult[T] = AsyncResult()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.add_done_callback(lambda done: self._post(result, done))
        try:
            return cast("T", result.get())
        except BaseException:
            future.cancel()
            raise

    def _post(self, result: AsyncResult[Any], done: Future[Any]) -> None:
        """In the loop's thread: many posts may be one waking."""
        self._done.append((result, done))
        self._watcher.send()

    def _deliver(self) -> None:
        """In gevent's thread."""
        while self._done:
            result, done = self._done.popleft()
            if done.cancelled():
                result.set_exception(CancelledError())
            elif (error := done.exception()) is not None:
                result.set_exception(error)
            else:
                result.set(done.result())
