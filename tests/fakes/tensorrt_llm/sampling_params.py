"""`SamplingParams` and `GuidedDecodingParams`: the file's fields, the library's checks."""

from __future__ import annotations

from typing import Any

from tensorrt_llm.signatures import dataclass_of


class _GuidedChecks:
    __slots__ = ()

    def _validate(self: Any) -> None:
        names = ("json", "regex", "grammar", "json_object", "structural_tag")
        if sum(bool(getattr(self, name)) for name in names) > 1:
            raise ValueError("Only one guided decoding parameter can be specified.")


class _SamplingChecks:
    __slots__ = ()

    def __post_init__(self: Any) -> None:
        if self.pad_id is None:
            self.pad_id = self.end_id
        self.best_of = self.best_of or self.n
        for name, low, high in (("top_p", 0, 1), ("top_k", 0, None), ("temperature", 0, None)):
            value = getattr(self, name)
            if value is not None and (value < low or (high is not None and value > high)):
                raise ValueError(f"require {name} in range, got {name}={value}")
        if self.guided_decoding is not None:
            self.guided_decoding._validate()
        self.logprobs = self.logprobs and int(self.logprobs)

    @property
    def _greedy_decoding(self: Any) -> bool:
        none = self.temperature is None and self.top_p is None and self.top_k is None
        return none or self.top_k == 1 or self.top_p == 0.0 or self.temperature == 0


GuidedDecodingParams: Any = dataclass_of("GuidedDecodingParams", kw_only=True, base=_GuidedChecks)
SamplingParams: Any = dataclass_of("SamplingParams", kw_only=True, base=_SamplingChecks)
