"""`LLM`: built blocking, asked from a running loop, answered by a rank that it starts."""

from __future__ import annotations

import atexit
import itertools
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from functools import partial
from typing import Any

from tensorrt_llm.executor.result import IterationResult, RequestOutput
from tensorrt_llm.language import Language
from tensorrt_llm.llmapi.llm_args import KvCacheConfig
from tensorrt_llm.rank import Rank
from tensorrt_llm.sampling_params import SamplingParams
from tensorrt_llm.signatures import CONSTRUCTOR, EXPLICIT, SPEC, signature_of

_GENERATE = signature_of(SPEC["generate_async"]["parameters"])
_UNSEEN_BLOCKS = 64
BUILT: list[LLM] = []
"""Every LLM of this process, so that a test can reach the one inside of an engine."""


class _Arguments:
    """What `llm.args` shows."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.guided_decoding_backend = given.get("guided_decoding_backend")


class LLM:
    """See the package. What steers it is in the environment: `LOOKALIKE_PACE` is how many seconds a
    step takes, `LOOKALIKE_LOAD` how many the constructor, `LOOKALIKE_FAULT` what goes wrong at
    first; with `TLLM_WORKER_USE_SINGLE_PROCESS=1` the rank is a thread, not a process.
    """

    def __init__(self, *given: Any, **keywords: Any) -> None:
        arguments = dict(zip(EXPLICIT, given, strict=False)) | keywords
        for name in arguments:
            if name not in CONSTRUCTOR:
                raise ValueError(f"LLM got invalid argument: {name}")
        time.sleep(float(os.environ.get("LOOKALIKE_LOAD", "0")))
        cache = KvCacheConfig(**arguments.get("kv_cache_config") or {})
        size = cache.tokens_per_block
        most = cache.max_tokens
        self.args = _Arguments(arguments)
        self.arguments = arguments
        self.tokenizer = Language(arguments["model"])
        self._sampler = arguments.get("sampler_type", "auto")
        self._longest = arguments.get("max_seq_len")
        self._chunked = arguments.get("enable_chunked_prefill", False)
        self._budget = arguments.get("max_num_tokens") or 8192
        self._stats_on = arguments.get("enable_iter_perf_stats", False)
        order = {
            "folder": str(arguments["model"]),
            "slots": arguments.get("max_batch_size") or 2048,
            "blocks": most // size if most else _UNSEEN_BLOCKS,
            "block_tokens": size,
            "events": bool(cache.event_buffer_max_size and cache.enable_block_reuse),
            "fault": os.environ.get("LOOKALIKE_FAULT", ""),
            "seconds_per_token": os.environ.get("LOOKALIKE_PACE", "0.0002"),
        }
        self._results: dict[int, RequestOutput] = {}
        self._numbers = itertools.count(1)
        self._early: list[tuple[str, str]] = []
        self._streams: dict[str, IterationResult] = {}
        self._stopped = False
        self.asked: list[dict[str, Any]] = []
        single = os.environ.get("TLLM_WORKER_USE_SINGLE_PROCESS") == "1"
        self.rank: _Threaded | _Spawned = (_Threaded if single else _Spawned)(order, self._hear)
        BUILT.append(self)
        atexit.register(self._at_exit)

    def generate_async(self, *given: Any, **keywords: Any) -> RequestOutput:
        """Bound against the real signature; what the real one raises at once is raised at once."""
        call = _GENERATE.bind(self, *given, **keywords)
        call.apply_defaults()
        asked = call.arguments
        self.asked.append(asked)
        if self._stopped:
            raise RuntimeError("LLM is shutting down")
        params = asked["sampling_params"]
        params = SamplingParams() if params is None else params
        if not isinstance(params, SamplingParams):
            raise TypeError(f"The sampling_params must be type SamplingParams, got {type(params)}")
        if params.end_id is None:
            params.end_id = self.tokenizer.eos_token_id
        prompt = _ids(asked["inputs"])
        if not self._chunked and len(prompt) > self._budget:
            raise ValueError(f"The sum of prompt length ({len(prompt)}) should not exceed "
                             f"max_num_tokens ({self._budget})")  # fmt: skip
        number = next(self._numbers)
        abort = partial(self.rank.tell, "abort", number)
        result = RequestOutput(number, prompt, params, abort, self.shutdown)
        self._results[number] = result
        for kind in ("stats", "event"):
            if kind not in self._streams:  # they begin with the first request
                self._streams[kind] = IterationResult()
            self._streams[kind].mark_undone()
        for kind, body in self._early:
            self._streams[kind].queue.put(body)
        self._early.clear()
        self.rank.tell("submit", (number, prompt, self._told(params, asked["cache_salt"])))
        return result

    generate_async.__signature__ = _GENERATE  # type: ignore[attr-defined]

    def get_stats_async(self, timeout: float | None = 2) -> Any:
        return self._stream("stats", timeout)

    def get_kv_cache_events_async(self, timeout: float | None = 2) -> Any:
        return self._stream("event", timeout)

    def shutdown(self) -> None:
        if not self._stopped:
            self._stopped = True
            self.rank.stop()

    def _at_exit(self) -> None:
        """As the real one does; where a rank is dead, the process waits here for ever."""
        self.shutdown()

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def _stream(self, kind: str, timeout: float | None) -> Any:
        if kind not in self._streams:
            return _nothing()
        self._streams[kind].set_timeout(timeout)
        return self._streams[kind]

    def _told(self, params: Any, salt: str | None) -> dict[str, Any]:
        """What the rank needs; a constraint without a backend is dropped in silence, as in 1.2.1,
        and so are penalties that the default sampler does not have."""
        weighs = self._sampler == "TRTLLMSampler"
        return {
            "end_id": -1 if params.ignore_eos else params.end_id,
            "stop": list(params.stop_token_ids or ()),
            "max_tokens": params.max_tokens,
            "seed": params.seed,
            "greedy": params._greedy_decoding,
            "logprobs": params.logprobs or 0,
            "salt": salt,
            "guide": self._guide(params.guided_decoding),
            "bias": params.embedding_bias if weighs else None,
            "frequency": (params.frequency_penalty or 0.0) if weighs else 0.0,
            "presence": (params.presence_penalty or 0.0) if weighs else 0.0,
        }

    def _guide(self, guided: Any) -> tuple[str, str] | None:
        backend = self.args.guided_decoding_backend
        if guided is None or backend is None:
            return None
        if guided.json_object:
            return "json", '{"type": "object"}'
        if guided.json is not None:
            text = guided.json if isinstance(guided.json, str) else json.dumps(guided.json)
            return "json", text
        if guided.structural_tag is not None:
            return ("structural_tag" if backend == "xgrammar" else "unknown", guided.structural_tag)
        return ("grammar" if backend == "llguidance" else "ebnf", guided.grammar or "")

    def _hear(self, kind: str, number: int, body: Any) -> None:
        if kind == "response":
            result = self._results.get(number)
            if result is not None:
                if body.get("final") or "error" in body:
                    del self._results[number]
                result.queue.put(body)
        elif kind == "stats" and not self._stats_on:
            return
        elif kind in self._streams:
            self._streams[kind].queue.put(body)
        else:
            self._early.append((kind, body))


class _Threaded:
    """The rank as a thread of this process."""

    pid: int | None = None

    def __init__(self, order: dict[str, Any], hear: Any) -> None:
        self._rank = Rank(order, hear)
        self._thread = threading.Thread(target=self._rank.run, daemon=True)
        self._thread.start()
        self.hung = order["fault"] == "hang"

    def tell(self, kind: str, what: Any) -> None:
        self._rank.tell(kind, what)

    def turn(self, fault: str) -> None:
        self.hung = self.hung or fault == "hang"
        self.tell("turn", fault)

    def stop(self) -> None:
        """Blocks for as long as a dead rank is awaited, which is for ever."""
        if self.hung:
            threading.Event().wait()
        self.tell("stop", None)
        self._thread.join()


class _Spawned:
    """The rank as a process. When it dies nothing is said to anybody, as in 1.2.1."""

    def __init__(self, order: dict[str, Any], hear: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from tensorrt_llm.rank import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self.pid = self._process.pid
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._sink, self._source = self._process.stdin, self._process.stdout
        self._lock = threading.Lock()
        self._stopping = False
        self._write(order)
        while (said := pickle.load(self._source))[0] != "ready":  # noqa: S301 - from our own child
            hear(*said)
        threading.Thread(target=self._listen, args=(hear,), daemon=True).start()

    def tell(self, kind: str, what: Any) -> None:
        try:
            self._write((kind, what))
        except OSError:
            return  # it is dead, and nobody notices

    def turn(self, fault: str) -> None:
        self.tell("turn", fault)

    def stop(self) -> None:
        self._stopping = True
        if (self._process.poll() or 0) < 0:
            threading.Event().wait()  # the real one waits for an answer of the dead
        self.tell("stop", None)
        self._process.wait()

    def _write(self, what: Any) -> None:
        with self._lock:
            pickle.dump(what, self._sink)
            self._sink.flush()

    def _listen(self, hear: Any) -> None:
        while True:
            try:
                hear(*pickle.load(self._source))  # noqa: S301
            except (EOFError, pickle.UnpicklingError):
                return


def _ids(inputs: Any) -> list[int]:
    prompt = inputs["prompt_token_ids"] if isinstance(inputs, dict) else inputs
    if not isinstance(prompt, list) or not all(isinstance(one, int) for one in prompt):
        raise TypeError(f"The inputs must be type str or list of int, but got {type(prompt)}")
    return prompt


async def _nothing() -> Any:
    for one in ():
        yield one
