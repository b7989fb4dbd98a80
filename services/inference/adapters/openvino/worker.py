"""Owns the thread that computes: takes commands, runs steps, hands out what came of them.

Must not know asyncio or OpenVINO. The thread alone touches model, scheduler and jobs while it
runs; others reach it through `submit`, `abort` and `stop`, and it speaks through one callback with
everything that a step produced.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter, deque
from collections.abc import Callable

import numpy as np
from msgspec.structs import replace

from services.inference.adapters.openvino.batch import assemble
from services.inference.adapters.openvino.blocks import BlockPool
from services.inference.adapters.openvino.grammar import AnswerConstraint
from services.inference.adapters.openvino.model import StepModel
from services.inference.adapters.openvino.options import EngineOptions
from services.inference.adapters.openvino.sampling import Row, choose, logprob, weighed
from services.inference.adapters.openvino.scheduler import Scheduler, Sequence, Slice
from services.inference.core.blocks import PrefixReport
from services.inference.core.generation import EngineFinish, TokenUsage
from services.inference.ports import (
    EngineBroken,
    EngineChunk,
    EngineFailed,
    EngineFinished,
    EngineStats,
    GenerateRequest,
    InvalidRequest,
    Sampling,
)
from shared.clock import monotonic

Output = EngineChunk | EngineFailed | EngineBroken | InvalidRequest


class Job:
    """One request inside the engine, with what it needs to choose its next token."""

    def __init__(self, request: GenerateRequest, constraint: AnswerConstraint | None) -> None:
        self.request = request
        self.constraint = constraint
        self.sequence = Sequence(
            request.prompt,
            request.cache_salt,
            request.keep,
            request.lineage,
            patient=request.priority == "batch",
        )
        self.produced = 0
        self.counts: Counter[int] = Counter()
        self.random = _generator(request.sampling)

    def usage(self) -> TokenUsage:
        """Tokens so far."""
        return TokenUsage(len(self.request.prompt), self.produced, self.sequence.cached or 0)


def _generator(sampling: Sampling) -> np.random.Generator | None:
    """Greedy needs no randomness; a seed may be any integer, numpy wants none below 0."""
    if sampling.temperature <= 0:
        return None
    return np.random.default_rng(None if sampling.seed is None else sampling.seed % 2**64)


class Worker:
    """The engine's thread."""

    def __init__(
        self,
        model: StepModel,
        options: EngineOptions,
        deliver: Callable[[list[tuple[Job, Output]]], None],
    ) -> None:
        self._model = model
        self._capacity = options.max_sequences
        self._deliver = deliver
        self._pool = BlockPool(model.kv_blocks)
        self._scheduler = Scheduler(
            self._pool,
            model.block_tokens,
            options.max_sequences,
            options.batch_tokens,
            options.prefix_cache,
        )
        self._jobs: dict[Sequence, Job] = {}
        self._commands: deque[tuple[str, Job]] = deque()
        self._forgotten: deque[str] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._ended = False
        self._outbox: list[tuple[Job, Output]] = []
        self._tokens = self._prompt_tokens = self._cached_tokens = 0
        self._step_limit = options.step_limit_s
        self._stepping: float | None = None
        self._bug: str | None = None
        self._stats = self._snapshot()
        self._report = PrefixReport(block_tokens=model.block_tokens, complete=True)
        self._reported, self._asked = 0, False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to take commands."""
        self._thread.start()

    def submit(self, job: Job) -> bool:
        """Queue a job that was checked to fit; False when the thread has ended or is ending."""
        self._commands.append(("submit", job))
        self._wake.set()
        return not self._ended

    def abort(self, job: Job) -> None:
        """End a job before the next step; harmless when it ended already."""
        self._commands.append(("abort", job))
        self._wake.set()

    def forget(self, lineage: str) -> None:
        """Nobody comes back to its prompts."""
        self._forgotten.append(lineage)
        self._wake.set()

    def stop(self) -> None:
        """Abort everything and end the thread."""
        self._stopping = True
        self._wake.set()

    def join(self, timeout: float) -> bool:
        """Wait for the end of the thread, which blocks; False where it did not come in time."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def broken(self) -> EngineBroken | None:
        """Why no step will ever end again, None where all is well."""
        if self._bug is not None:
            return EngineBroken(self._bug)
        since = self._stepping
        if since is not None and monotonic() - since > self._step_limit:
            return EngineBroken(f"a step did not end within {self._step_limit:g} s")
        return None

    def stats(self) -> EngineStats:
        """The state after the latest step."""
        return self._stats

    def prefixes(self) -> PrefixReport:
        """The blocks as of when this was asked for the last time, or as of now if nothing runs."""
        self._asked = True
        return self._report

    def _tell_prefixes(self) -> None:
        """Only in this thread is the pool at rest; only for those who ask is it copied."""
        if self._pool.changes != self._reported and (self._asked or not self._jobs):
            self._reported, self._asked = self._pool.changes, False
            self._report = replace(self._report, blocks=self._pool.names)

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._take_commands()
                if self._jobs:
                    self._stepping = monotonic()
                    self._step()
                    self._stepping = None
                self._flush()
                self._tell_prefixes()
                if not self._jobs and not self._commands:
                    self._wake.wait()
                    self._wake.clear()
        finally:
            self._end(sys.exception())

    def _end(self, error: BaseException | None) -> None:
        """Leave nobody waiting. An error here is a bug of ours; the thread still dies of it.

        The flag comes before the last look at the commands, so a job is either seen or refused.
        """
        self._stepping = None
        if error is not None:
            self._bug = type(error).__name__
        self._ended = True
        self._take_commands()
        for job in list(self._jobs.values()):
            if self._bug is None:
                self._finish(job, "aborted")
            else:
                self._drop(job, EngineBroken(self._bug))
        self._flush()

    def _take_commands(self) -> None:
        while self._commands:
            command, job = self._commands.popleft()
            if command == "submit":
                self._jobs[job.sequence] = job
                self._scheduler.add(job.sequence)
            elif job.sequence in self._jobs:
                self._finish(job, "aborted")
        while self._forgotten:
            self._pool.forget(self._forgotten.popleft())

    def _step(self) -> None:
        slices = self._scheduler.plan()
        try:
            logits = self._model.infer(assemble(slices, self._model.block_tokens))
        except (RuntimeError, MemoryError) as error:
            # Nothing of the step was published, so weights, cache and the others are as before.
            self._fail(slices, error)
            return
        self._scheduler.commit(slices)
        sampling = [part.sequence for part in slices if part.samples]
        for sequence, row in zip(sampling, logits, strict=True):
            self._sample(self._jobs[sequence], row)

    def _fail(self, slices: list[Slice], error: Exception) -> None:
        for part in slices:
            reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
            self._drop(self._jobs[part.sequence], EngineFailed(reason[0][:200]))

    def _sample(self, job: Job, row: Row) -> None:
        request, constraint = job.request, job.constraint
        weights = weighed(row, request.sampling, job.counts)
        allowed = weights if constraint is None else constraint.masked(weights)
        token = choose(allowed, request.sampling, job.random)
        job.sequence.ids.append(token)
        job.produced += 1
        if request.sampling.weighs:
            job.counts[token] += 1
        self._tokens += 1
        if token in request.stop_token_ids:
            self._finish(job, "stop")
            return
        try:
            complete = constraint is not None and constraint.accept(token)
        except (EngineFailed, InvalidRequest) as error:
            self._drop(job, error)
            return
        shown = (token,)
        wanted = request.logprobs
        logs = () if wanted is None else (logprob(row, token, wanted),)
        if complete:
            self._finish(job, "stop", EngineChunk(shown, logs))
        elif job.produced >= request.max_tokens:
            self._finish(job, "length", EngineChunk(shown, logs))
        else:
            self._outbox.append((job, EngineChunk(shown, logs)))

    def _finish(self, job: Job, reason: EngineFinish, last: EngineChunk | None = None) -> None:
        self._forget(job)
        self._count(job)
        chunk = last or EngineChunk()
        finished = EngineFinished(reason, job.usage())
        self._outbox.append((job, EngineChunk(chunk.token_ids, chunk.logprobs, finished)))

    def _drop(self, job: Job, error: EngineFailed | EngineBroken | InvalidRequest) -> None:
        self._forget(job)
        self._outbox.append((job, error))

    def _count(self, job: Job) -> None:
        if job.sequence.cached is not None:  # it was admitted
            self._prompt_tokens += len(job.request.prompt)
            self._cached_tokens += job.sequence.cached

    def _forget(self, job: Job) -> None:
        del self._jobs[job.sequence]
        self._scheduler.remove(job.sequence)

    def _flush(self) -> None:
        """Speak once a step, after the snapshot: who hears of an end also sees the free slot."""
        self._stats = self._snapshot()
        outbox, self._outbox = self._outbox, []
        if outbox:
            self._deliver(outbox)

    def _snapshot(self) -> EngineStats:
        return EngineStats(
            running=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting),
            capacity=self._capacity,
            blocks_total=self._pool.total,
            blocks_free=self._pool.free,
            blocks_cached=self._pool.cached,
            tokens_generated=self._tokens,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
        )
