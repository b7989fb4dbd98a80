"""Owns what of a row of the models file becomes an argument of `LLM`. Must not know requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.inference.adapters.trtllm import names
from services.inference.adapters.trtllm.library import Library
from shared.errors import Permanent
from shared.models import TensorRtModel

_GIB = 1 << 30
_ROW = {
    "model": "path",
    "tensor_parallel_size": "tensor_parallel",
    "pipeline_parallel_size": "pipeline_parallel",
    "moe_expert_parallel_size": "expert_parallel",
    "max_batch_size": "concurrency",
    "max_num_tokens": "batch_tokens",
    "max_seq_len": "context",
    "guided_decoding_backend": "guided",
    "enable_lora": "lora",
    "lora_config": "lora",
}
_ROW_CACHE = {
    "free_gpu_memory_fraction": "kv_memory",
    "tokens_per_block": "block_tokens",
    "event_buffer_max_size": "kv_events",
    "host_cache_size": "host_cache_gib",
    "dtype": "kv_dtype",
}
_OURS = frozenset({"enable_iter_perf_stats", "return_perf_metrics", "enable_chunked_prefill"})
_OUR_CACHE = frozenset({"enable_block_reuse", "enable_partial_reuse"})


def llm_arguments(row: TensorRtModel, library: Library) -> dict[str, object]:
    """The constructor's arguments.

    Raises:
        Permanent: `invalid_models_file`; an option is unknown to the library, or is set elsewhere.
    """
    cache = _options_of_cache(row, library)
    _check(row.options, "options", library.llm_fields, _ROW, _OURS)
    arguments: dict[str, object] = {
        **row.options,
        "model": row.path,
        "tensor_parallel_size": row.tensor_parallel,
        "pipeline_parallel_size": row.pipeline_parallel,
        "max_batch_size": row.concurrency,
        "max_num_tokens": row.batch_tokens,
        "max_seq_len": row.context,
        "enable_chunked_prefill": True,
        "enable_iter_perf_stats": True,
        "return_perf_metrics": True,
        "kv_cache_config": cache | _cache(row, library),
    }
    if row.expert_parallel is not None:
        arguments["moe_expert_parallel_size"] = row.expert_parallel
    if row.guided != "none":
        arguments["guided_decoding_backend"] = row.guided
    if row.lora is not None:
        arguments["enable_lora"] = True
        arguments["lora_config"] = {
            "lora_dir": [row.lora.path],
            "max_lora_rank": row.lora.rank,
            "max_loras": 1,
            "max_cpu_loras": 1,
        }
    return arguments


def _cache(row: TensorRtModel, library: Library) -> dict[str, object]:
    """Reuse is by whole blocks: that is the granularity the engine says it has."""
    wanted: dict[str, object] = {
        "enable_block_reuse": True,
        "free_gpu_memory_fraction": row.kv_memory,
        "event_buffer_max_size": row.kv_events,
        "enable_partial_reuse": False,
        "tokens_per_block": row.block_tokens,
    }
    if row.host_cache_gib:
        wanted["host_cache_size"] = int(row.host_cache_gib * _GIB)
    if row.kv_dtype != "auto":
        wanted["dtype"] = row.kv_dtype
    return {name: value for name, value in wanted.items() if name in library.kv_fields}


def _options_of_cache(row: TensorRtModel, library: Library) -> dict[str, object]:
    given: Any = row.options.get("kv_cache_config", {})
    if not isinstance(given, dict):
        raise _invalid("options.kv_cache_config", "it must be a mapping")
    _check(given, "options.kv_cache_config", library.kv_fields, _ROW_CACHE, _OUR_CACHE)
    return dict(given)


def _check(
    options: Mapping[str, object],
    where: str,
    known: frozenset[str],
    row: Mapping[str, str],
    ours: frozenset[str],
) -> None:
    for name in options:
        if name not in known:
            near = ", ".join(sorted(one for one in known if one[:3] == name[:3])) or "none like it"
            detail = f"tensorrt_llm has no such argument (it has {near})"
            raise _invalid(f"{where}.{name}", detail)
        if name in row:
            raise _invalid(f"{where}.{name}", f"say it in the row itself, as `{row[name]}`")
        if name in ours:
            raise _invalid(f"{where}.{name}", "the worker decides this")


def penalties_kept(row: TensorRtModel) -> bool:
    """Whether the sampler that the row asks for keeps penalties and biases.

    That of 1.2 that is used by default has none and says nothing of it (its documentation lists
    penalties from 1.3 on), so they are refused.
    """
    name, sampler = names.PENALTY_SAMPLER
    return row.options.get(name) == sampler


def _invalid(field: str, detail: str) -> Permanent:
    return Permanent("invalid_models_file", f"{field}: {detail}", field=field)
