"""`python -m services.inference.adapters.trtllm.check`: what the installed tensorrt_llm is without.

Prints one line of JSON. The library is only imported, no engine is built and no GPU is needed: the
command line runs this as a process of its own, since such an import may take its process along.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from typing import Any

import msgspec

from services.inference.adapters.trtllm import names
from services.inference.adapters.trtllm.library import WRITTEN_FOR, Library, load
from shared.errors import MillraceError


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome: `error` where the library is not to be used, `without` what it does not have."""

    written_for: str = WRITTEN_FOR
    version: str = ""
    code: str = ""
    error: str = ""
    without: tuple[str, ...] = ()


def installed() -> Installed:
    """Look at the library of this interpreter."""
    try:
        library = load()
    except MillraceError as error:
        return Installed(code=error.code, error=error.detail)
    return Installed(version=library.version, without=tuple(_without(library)))


def _without(library: Library) -> Iterable[str]:
    wanted = (
        ("KvCacheConfig", names.OPTIONAL_KV_CACHE, library.kv_fields),
        ("generate_async", names.OPTIONAL_GENERATE, library.keywords),
        ("LLM", {names.PENALTY_SAMPLER[0]}, library.llm_fields),
        ("SamplingParams", names.SAMPLING, _fields(library.sampling_params)),
        ("GuidedDecodingParams", names.GUIDED, _fields(library.guided_params)),
    )
    for kind, used, known in wanted:
        yield from (f"{kind}.{name}" for name in sorted(used - known))
    if library.retention is None:
        yield "llmapi.KvCacheRetentionConfig"


def _fields(made: Any) -> frozenset[str]:  # noqa: ANN401 - a class of the library
    return frozenset(field.name for field in dataclasses.fields(made))


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(installed()).decode() + "\n")
