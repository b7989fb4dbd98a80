"""The configuration classes that a caller may need. Names outside the file of signatures:
`KvCacheRetentionConfig`, whose arguments NVIDIA's own examples show.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from tensorrt_llm.llmapi.llm_args import KvCacheConfig

__all__ = ["KvCacheConfig", "KvCacheRetentionConfig"]


@dataclass(frozen=True)
class TokenRangeRetentionConfig:
    """The priority of a range of the prompt."""

    token_start: int
    token_end: int | None = None
    priority: int = 35
    duration_ms: timedelta | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.priority <= 100:
            raise RuntimeError("priority must be between 0 and 100")


@dataclass(frozen=True)
class KvCacheRetentionConfig:
    """What of a request is kept longer, or less long, than the rest."""

    token_range_retention_configs: list[Any]
    decode_retention_priority: int = 35
    decode_duration_ms: timedelta | None = None
    TokenRangeRetentionConfig: ClassVar[type] = TokenRangeRetentionConfig
