"""The constructor's fields and the configuration of the cache; unknown names are refused."""

from __future__ import annotations

from typing import Any, ClassVar

import pydantic
from tensorrt_llm.signatures import CLASSES, CONSTRUCTOR, default_of


class TorchLlmArgs:
    """Only its fields: the real one cannot be built without a GPU either."""

    model_fields: ClassVar[dict[str, Any]] = CONSTRUCTOR

    def __init__(self, **_: Any) -> None:
        raise RuntimeError("No CUDA GPUs are available")


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")


KvCacheConfig: Any = pydantic.create_model(
    "KvCacheConfig",
    __base__=_Strict,
    **{entry["name"]: (Any, default_of(entry)) for entry in CLASSES["KvCacheConfig"]["fields"]},
)
