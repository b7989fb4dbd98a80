"""Owns the import of `tensorrt_llm`, and how its objects look to the rest of this package.

The library comes with NVIDIA's image and is in no package index as such, so it is imported by name
and seen through the protocols below: what is not declared here cannot be used.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import ModuleType
from typing import Any, Protocol

from services.inference.adapters.trtllm import names
from shared.errors import Permanent

WRITTEN_FOR = "1.2"
IMAGE = "infra/docker/inference-trtllm.Dockerfile"


class Logprob(Protocol):
    """How likely a token was."""

    logprob: float
    rank: int | None


class ReuseMetrics(Protocol):
    """What a request found in the cache."""

    num_reused_blocks: int


class RequestMetrics(Protocol):
    """Measurements of a request."""

    kv_cache_metrics: ReuseMetrics


class Completion(Protocol):
    """What a request said so far; everything in it grows."""

    token_ids: Sequence[int]
    logprobs: Sequence[Mapping[int, Logprob] | float]
    finish_reason: str | None
    request_perf_metrics: RequestMetrics | None


class Result(Protocol):
    """A request; iterating yields itself, once for each step."""

    outputs: Sequence[Completion]
    cached_tokens: int

    def abort(self) -> None:
        """Ask for its end; it still has to be iterated to it."""

    async def __anext__(self) -> Result: ...


class Llm(Protocol):
    """The engine."""

    tokenizer: Any

    def generate_async(self, **keywords: object) -> Result:
        """Submit; not a coroutine, and called in a running loop."""

    def get_stats_async(self, timeout: float) -> AsyncIterator[Mapping[str, Any]]:
        """Statistics; ends when none came for that long."""

    def get_kv_cache_events_async(self, timeout: float) -> AsyncIterator[Mapping[str, Any]]:
        """Changes of the cache; likewise."""

    def shutdown(self) -> None:
        """Free everything; blocks."""


@dataclass(frozen=True, slots=True)
class Library:
    """An installed tensorrt_llm and what of it is there."""

    version: str
    llm: Callable[..., Llm]
    sampling_params: Callable[..., object]
    guided_params: Callable[..., object]
    request_error: type[Exception]
    llm_fields: frozenset[str]
    kv_fields: frozenset[str]
    keywords: frozenset[str]
    retention: Callable[..., Any] | None
    lora_request: Callable[..., object] | None


def load() -> Library:
    """Import the library, which takes seconds.

    Raises:
        Permanent: `engine_missing`; `engine_mismatch` where it lacks what this package needs.
    """
    try:
        package = importlib.import_module("tensorrt_llm")
    except ImportError as error:
        raise Permanent(
            "engine_missing",
            f"tensorrt_llm cannot be imported ({error}); a worker with `engine: tensorrt_llm` runs "
            f"in the image of {IMAGE}",
            field="engine",
        ) from error
    arguments, requests = _module("llmapi.llm_args"), _module("executor.request")
    found = Library(
        version=str(package.__version__),
        llm=package.LLM,
        sampling_params=package.SamplingParams,
        guided_params=_module("sampling_params").GuidedDecodingParams,
        request_error=_module("executor.utils").RequestError,
        llm_fields=frozenset(arguments.TorchLlmArgs.model_fields),
        kv_fields=frozenset(arguments.KvCacheConfig.model_fields),
        keywords=frozenset(inspect.signature(package.LLM.generate_async).parameters),
        retention=getattr(_module("llmapi"), "KvCacheRetentionConfig", None),
        lora_request=getattr(requests, "LoRARequest", None),
    )
    if missing := lacking(found):
        raise Permanent(
            "engine_mismatch",
            f"tensorrt_llm {found.version} is without {', '.join(missing)}; this worker is written "
            f"for {WRITTEN_FOR}: use that image",
            field="engine",
        )
    return found


def lacking(library: Library) -> list[str]:
    """What has to be there and is not, in words."""
    wanted = (
        ("LLM argument", names.LLM - library.llm_fields),
        ("KvCacheConfig field", names.KV_CACHE - library.kv_fields),
        ("generate_async keyword", (names.GENERATE | {names.SALT}) - library.keywords),
    )
    return [f"{kind} {name}" for kind, absent in wanted for name in sorted(absent)]


def retained(library: Library, priority: int, lasting_s: float) -> object | None:
    """Keep a prompt's blocks at this priority of 0 to 100 for a while; None where nobody can.

    The classes are bindings of C++ that only NVIDIA's examples show, hence the look before.
    """
    part = getattr(library.retention, "TokenRangeRetentionConfig", None)
    if library.retention is None or part is None:
        return None
    lasting = timedelta(seconds=lasting_s)
    made: object = library.retention(
        token_range_retention_configs=[part(0, None, priority, lasting)],
        decode_retention_priority=priority,
        decode_duration_ms=lasting,
    )
    return made


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"tensorrt_llm.{name}")
