"""Results that are waited for: queues are chosen by whether a loop runs, as in the real library.

A result yields itself at every step; its token ids grow. What the rank sends is one response a
step; an error in it is raised by the step that reads it.
"""

from __future__ import annotations

import asyncio
import json
import queue
from collections import deque
from collections.abc import Callable
from typing import Any

from tensorrt_llm.executor.executor import CppExecutorError
from tensorrt_llm.executor.utils import RequestError
from tensorrt_llm.signatures import dataclass_of

NO_LOOP = "The asyncio event loop was not present during initialization."


class _Diffs:
    __slots__ = ()

    @property
    def length(self: Any) -> int:
        return len(self.token_ids)

    @property
    def token_ids_diff(self: Any) -> list[int]:
        return list(self.token_ids[self._last_token_ids_len :])

    @property
    def logprobs_diff(self: Any) -> list[Any]:
        return list(self.logprobs[self._last_logprobs_len :])

    @property
    def text_diff(self: Any) -> str:
        return str(self.text[self._last_text_len :])


Logprob: Any = dataclass_of("Logprob")
CompletionOutput: Any = dataclass_of("CompletionOutput", base=_Diffs)


class AsyncQueue:
    """Filled from any thread, emptied in the loop that it was made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: deque[Any] = deque()
        self._event = asyncio.Event()

    def put(self, item: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._add, item)

    def _add(self, item: Any) -> None:
        self._items.append(item)
        self._event.set()

    async def get(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - the library's
        while not self._items:
            self._event.clear()
            async with asyncio.timeout(timeout):
                await self._event.wait()
        return self._items.popleft()


def queue_here() -> tuple[Any, AsyncQueue | None]:
    """The queue of a result: one of the loop's where a loop runs, else one that blocks."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return queue.Queue(), None
    waiting = AsyncQueue()
    return waiting, waiting


class RequestOutput:
    """A request and all that came of it so far."""

    def __init__(
        self,
        number: int,
        prompt: list[int],
        params: Any,
        abort: Callable[[], None],
        shutdown: Callable[[], None],
    ) -> None:
        self.id = self.request_id = number
        self.prompt_token_ids = prompt
        self.sampling_params = params
        self.prompt: str | None = None
        self.outputs = [CompletionOutput(index=0)]
        self.cached_tokens = self.decoding_iter = 0
        self.avg_decoded_tokens_per_iter: float | None = None
        self.metrics_dict: dict[str, float] = {}
        self.disaggregated_params = None
        self.queue, self.aqueue = queue_here()
        self._abort, self._shutdown = abort, shutdown
        self._done = self._aborted = False

    @property
    def finished(self) -> bool:
        return self._done

    def abort(self) -> None:
        self._abort()
        self._aborted = True

    def aborted(self) -> bool:
        return self._aborted

    def _handle_response(self, response: dict[str, Any]) -> None:
        if "fatal" in response:
            self._shutdown()  # here, on the loop, for as long as it takes
            raise CppExecutorError(response["fatal"])
        if "error" in response:
            self._done = True
            raise RequestError(response["error"])
        output = self.outputs[0]
        output._last_token_ids_len, output._last_logprobs_len = output.length, len(output.logprobs)
        output.token_ids.extend(response["tokens"])
        output.logprobs += [
            {token: Logprob(value, rank) for token, value, rank in entry}
            for entry in response["logprobs"]
        ]
        self._done = response["final"]
        self.cached_tokens = response["cached"]
        self.decoding_iter = response["iteration"]
        if self._done:
            output.finish_reason = response["reason"]
            if response["stop_word"] is not None:
                output.stop_reason = response["stop_word"]
                output.token_ids = output.token_ids[:-1]

    async def _aresult_step(self) -> None:
        assert self.aqueue is not None, NO_LOOP
        self._handle_response(await self.aqueue.get())

    def result(self, timeout: float | None = None) -> RequestOutput:
        while not self._done:
            self._handle_response(self.queue.get())
        return self

    async def aresult(self) -> RequestOutput:
        while not self._done:
            await self._aresult_step()
        return self

    def __await__(self) -> Any:
        return self.aresult().__await__()

    def __aiter__(self) -> RequestOutput:
        return self

    async def __anext__(self) -> RequestOutput:
        if self._done:
            raise StopAsyncIteration
        await self._aresult_step()
        return self


class IterationResult:
    """Statistics or cache events; iterating ends when nothing came for the time-out."""

    def __init__(self) -> None:
        self._done = False
        self._timeout: float | None = 2
        self.queue, self.aqueue = queue_here()

    def set_timeout(self, timeout: float | None) -> None:
        self._timeout = timeout

    def mark_undone(self) -> None:
        self._done = False

    def __aiter__(self) -> IterationResult:
        return self

    async def __anext__(self) -> Any:
        if self._done:
            raise StopAsyncIteration
        assert self.aqueue is not None, NO_LOOP
        try:
            return json.loads(await self.aqueue.get(timeout=self._timeout))
        except TimeoutError:
            self._done = True
            raise StopAsyncIteration from None
