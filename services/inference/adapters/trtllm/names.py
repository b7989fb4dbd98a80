"""Owns the table of what is used of tensorrt_llm: arguments, fields and keywords, by name.

Nothing else in this package writes a keyword of the library that is not here, and what it reads of
the library's objects is declared in `library`. `tests/contract` holds both against the signatures
that are known, and `check` against an installed library. A name in an `OPTIONAL` table is looked
for before it is used: not every 1.2 may have it.
"""

from __future__ import annotations

LLM = frozenset(
    {
        "model",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "moe_expert_parallel_size",
        "max_batch_size",
        "max_num_tokens",
        "max_seq_len",
        "enable_chunked_prefill",
        "guided_decoding_backend",
        "kv_cache_config",
        "enable_iter_perf_stats",
        "return_perf_metrics",
        "enable_lora",
        "lora_config",
    }
)
"""Arguments of the constructor."""

KV_CACHE = frozenset({"enable_block_reuse", "free_gpu_memory_fraction", "event_buffer_max_size"})
OPTIONAL_KV_CACHE = frozenset(
    {"tokens_per_block", "enable_partial_reuse", "host_cache_size", "dtype"}
)
"""Fields of `KvCacheConfig`."""

SAMPLING = frozenset(
    {
        "end_id",
        "pad_id",
        "max_tokens",
        "stop_token_ids",
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "logprobs",
        "frequency_penalty",
        "presence_penalty",
        "embedding_bias",
        "guided_decoding",
        "detokenize",
        "add_special_tokens",
    }
)
"""Fields of `SamplingParams`."""

GUIDED = frozenset({"json", "grammar", "structural_tag"})
"""Fields of `GuidedDecodingParams`."""

GENERATE = frozenset({"inputs", "sampling_params", "streaming"})
SALT = "cache_salt"
"""Looked for when the library is loaded, which is refused without: tenants would share a cache."""
OPTIONAL_GENERATE = frozenset({"lora_request", "kv_cache_retention_config"})
"""Keywords of `generate_async`."""

PENALTY_SAMPLER = ("sampler_type", "TRTLLMSampler")
"""The option of the constructor under which penalties and biases are kept; an optional argument."""

STATS = frozenset({"kvCacheStats", "maxNumBlocks", "freeNumBlocks"})
EVENT = frozenset({"event_id", "data", "window_size", "attention_dp_rank"})
STORED = frozenset({"type", "parent_hash", "blocks", "block_hash", "tokens", "token_id"})
REMOVED = frozenset({"block_hashes"})
CREATED = frozenset({"num_blocks_per_cache_level"})
"""Keys of statistics and events."""
