"""Owns what an engine is made of, and what it says of itself. Must not know requests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from services.inference.adapters.trtllm.arguments import penalties_kept
from services.inference.adapters.trtllm.library import Library
from services.inference.core.demands import Constraint
from services.inference.ports import Ability, EngineInfo
from shared.models import TensorRtModel

Guide = Callable[[Constraint], Mapping[str, object] | None]


@dataclass(frozen=True, slots=True)
class Setup:
    """What an engine is made of.

    `guide` makes the library's fields of a constraint, or raises `InvalidRequest`; it may take long
    and is called in a thread. `model`, `vocabulary`, `context` and `digest` are the folder's.
    An engine that has been idle for `probe_s` is asked for a token, to see whether it lives.
    """

    row: TensorRtModel
    guide: Guide
    model: str
    vocabulary: int
    context: int
    digest: str = ""
    probe_s: float = 30.0
    drain_s: float = 5.0
    shutdown_s: float = 30.0


def describe(setup: Setup, library: Library, blocks: int) -> EngineInfo:
    """What the engine can do; `blocks` is how many it has, 0 where it has not said so."""
    row = setup.row
    context = min(row.context, setup.context)
    if blocks:
        context = min(context, blocks * row.block_tokens)
    return EngineInfo(
        model=setup.model,
        context_tokens=context,
        vocabulary=setup.vocabulary,
        capacity=row.concurrency,
        kv_blocks=blocks,
        block_tokens=row.block_tokens,
        abilities=_abilities(row),
        fingerprint=_fingerprint(library, setup),
    )


def _abilities(row: TensorRtModel) -> frozenset[Ability]:
    """No constraint without a backend: 1.2.1 would drop it and say nothing."""
    found: set[Ability] = {"logprobs"}
    if row.guided != "none":
        found.add("constraint")
    if penalties_kept(row):
        found.add("penalties")
    return frozenset(found)


def _fingerprint(library: Library, setup: Setup) -> str:
    said = (library.version, setup.digest, msgspec.json.encode(setup.row, order="sorted"))
    return "fp_" + hashlib.blake2b(repr(said).encode(), digest_size=6).hexdigest()
