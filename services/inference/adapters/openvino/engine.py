"""Owns the asyncio side of the embedded engine: checks requests, streams what the worker says.

Must not know the model's insides. The event loop never computes: loading, compiling a schema and
stepping happen in other threads, and one `call_soon_threadsafe` a step brings everything back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from services.inference.adapters.admission import check_request
from services.inference.adapters.openvino.grammar import AnswerConstraint
from services.inference.adapters.openvino.model import StepModel
from services.inference.adapters.openvino.options import EngineOptions
from services.inference.adapters.openvino.worker import Job, Output, Worker
from services.inference.core.blocks import PrefixReport
from services.inference.core.demands import Constraint
from services.inference.ports import (
    EngineBroken,
    EngineChunk,
    EngineInfo,
    EngineStats,
    EngineUnavailable,
    GenerateRequest,
    InvalidRequest,
)


class OpenVinoEngine:
    """The engine port on a local model; see `ports.Engine` for the guarantees.

    `load` and `compile_constraint` may take long and are called in threads.
    """

    def __init__(
        self,
        load: Callable[[], StepModel],
        compile_constraint: Callable[[Constraint], AnswerConstraint],
        options: EngineOptions,
    ) -> None:
        self._load = load
        self._compile = compile_constraint
        self._options = options
        self._worker: Worker | None = None
        self._info: EngineInfo | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._streams: dict[str, asyncio.Queue[Output]] = {}
        self._jobs: dict[str, Job] = {}
        self._early_aborts: set[str] = set()
        self._closed = False
        self._idle = EngineStats(
            running=0,
            waiting=0,
            capacity=options.max_sequences,
            blocks_total=options.kv_blocks,
            blocks_free=options.kv_blocks,
            blocks_cached=0,
            tokens_generated=0,
        )

    async def start(self) -> EngineInfo:
        """See the port."""
        if self._worker is not None or self._closed:
            raise EngineUnavailable("an engine is started once")
        self._loop = asyncio.get_running_loop()
        model = await asyncio.to_thread(self._load)
        if self._closed:
            raise EngineUnavailable("the engine was closed while it started")
        self._info = _describe(model, self._options)
        self._worker = Worker(model, self._options, self._deliver)
        self._worker.start()
        return self._info

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[EngineChunk]:
        """See the port."""
        worker = self._check(request)
        stream = self._streams[request.request_id] = asyncio.Queue()
        job: Job | None = None
        ended = False
        try:
            job = Job(request, await self._constraint(request))
            self._jobs[request.request_id] = job
            self._submit(worker, job)
            while not ended:
                output = await stream.get()
                ended = not isinstance(output, EngineChunk) or output.finished is not None
                if not isinstance(output, EngineChunk):
                    raise output
                if ended:
                    self._forget(request.request_id)
                yield output
        finally:
            if job is not None and not ended:
                worker.abort(job)
            if job is None or self._jobs.get(request.request_id) is job:
                self._forget(request.request_id)

    async def abort(self, request_id: str) -> None:
        """See the port."""
        job = self._jobs.get(request_id)
        if job is not None and self._worker is not None:
            self._worker.abort(job)
        elif request_id in self._streams:
            self._early_aborts.add(request_id)

    def stats(self) -> EngineStats:
        """See the port."""
        return self._idle if self._worker is None else self._worker.stats()

    def prefixes(self) -> PrefixReport:
        """See `ports.TellsPrefixes`."""
        if self._worker is None:
            return PrefixReport(block_tokens=1)
        return self._worker.prefixes()

    def forget(self, lineage: str) -> None:
        """See `ports.Forgets`."""
        if self._worker is not None:
            self._worker.forget(lineage)

    def health(self) -> EngineBroken | EngineUnavailable | None:
        """See the port."""
        if self._worker is None or self._closed:
            return EngineUnavailable("the engine is not running")
        return self._worker.broken()

    async def close(self) -> None:
        """See the port."""
        self._closed = True
        worker = self._worker
        if worker is not None:
            worker.stop()
            # a thread that does not come to its end is a daemon and goes with the process
            if not await asyncio.to_thread(worker.join, self._options.close_limit_s):
                for stream in self._streams.values():
                    stream.put_nowait(EngineBroken("the engine did not come to an end"))
            self._idle, self._worker = worker.stats(), None  # the model goes with the worker

    def _check(self, request: GenerateRequest) -> Worker:
        if self._worker is None or self._info is None or self._closed:
            raise EngineUnavailable("the engine is not running")
        check_request(request, self._info)
        if request.request_id in self._streams:
            raise InvalidRequest(f"request {request.request_id} is in flight already")
        return self._worker

    def _submit(self, worker: Worker, job: Job) -> None:
        if not worker.submit(job):
            if self._closed:
                raise EngineUnavailable("the engine is closed")
            raise worker.broken() or EngineBroken("the engine has ended")
        if job.request.request_id in self._early_aborts:  # came while the schema was compiled
            worker.abort(job)

    async def _constraint(self, request: GenerateRequest) -> AnswerConstraint | None:
        if request.constraint is None:
            return None
        return await asyncio.to_thread(self._compile, request.constraint)

    def _forget(self, request_id: str) -> None:
        self._streams.pop(request_id, None)
        self._jobs.pop(request_id, None)
        self._early_aborts.discard(request_id)

    def _deliver(self, outputs: list[tuple[Job, Output]]) -> None:
        """Called by the worker's thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(self._dispatch, outputs)

    def _dispatch(self, outputs: list[tuple[Job, Output]]) -> None:
        for job, output in outputs:
            if self._jobs.get(job.request.request_id) is job:
                self._streams[job.request.request_id].put_nowait(output)


def _describe(model: StepModel, options: EngineOptions) -> EngineInfo:
    """The context is what both the model and the cache can hold."""
    return EngineInfo(
        model=model.name,
        context_tokens=min(model.context_tokens, model.kv_blocks * model.block_tokens),
        vocabulary=model.vocabulary,
        capacity=options.max_sequences,
        kv_blocks=model.kv_blocks,
        block_tokens=model.block_tokens,
        fingerprint=model.fingerprint,
    )
