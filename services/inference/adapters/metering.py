"""Counts what a worker does: answers with their tokens, times and money, and how full it is."""

from __future__ import annotations

from collections.abc import Iterable

from services.inference.ports import EngineStats
from shared.contracts import facts as f
from shared.contracts.base import Message
from shared.contracts.work import InferStep
from shared.metrics.catalogue import (
    CALLS_WAITING,
    COST,
    ENDPOINT_OUT,
    FIRST_TOKEN,
    KV_BLOCKS,
    MODEL_CALLS,
    OUTCOMES,
    PREFIXES_BROKEN,
    SLOTS,
    SLOTS_USED,
    STEP_SECONDS,
    TENANT_COST,
    TENANT_TOKENS,
    TOKEN_GAP,
    TOKEN_KINDS,
    TOKENS,
)

STEP = "step"
_MICRO_CENTS = 1e6
_GONE = "client_gone"


def show(model: str) -> None:
    """Have everything about a model there from the start, at 0."""
    for kind in (STEP, "completion", "embedding"):
        for outcome in OUTCOMES:
            MODEL_CALLS.show(model, kind, outcome)
    for kind in TOKEN_KINDS:
        TOKENS.show(model, kind)
    for metric in (COST, FIRST_TOKEN, TOKEN_GAP):
        metric.show(model)
    for component in ("queue", "model"):
        STEP_SECONDS.show(component)


def stepped(model: str, work: InferStep, results: Iterable[Message]) -> None:
    """A step of a task came to an end; without a result nobody waited for it any more."""
    ended = False
    for fact in results:
        ended = True
        if not isinstance(fact, f.Inferred):
            MODEL_CALLS.add(model, STEP, "failed")
            continue
        MODEL_CALLS.add(model, STEP, "ok")
        if not fact.cached:
            STEP_SECONDS.observe(fact.timings.queued_ms / 1e3, "queue")
            STEP_SECONDS.observe(fact.timings.total_ms / 1e3, "model")
            _timed(model, fact.timings, fact.usage.output)
        _used(model, work.route.ref.tenant, fact.usage, fact.price)
    if not ended:
        MODEL_CALLS.add(model, STEP, "aborted")


def completed(model: str, tenant: str, fact: f.Completed) -> None:
    """A stateless completion or embedding came to an end."""
    gone = fact.error is not None and fact.error.code == _GONE
    outcome = "aborted" if gone else "ok" if fact.error is None else "failed"
    MODEL_CALLS.add(model, fact.kind, outcome)
    if outcome == "ok":
        _timed(model, fact.timings, fact.usage.output)
    _used(model, tenant, fact.usage, fact.price)


def _timed(model: str, timings: f.Timings, tokens: int) -> None:
    first = timings.first_token_ms / 1e3
    FIRST_TOKEN.observe(first, model)
    if tokens > 1:
        TOKEN_GAP.observe((timings.total_ms / 1e3 - first) / (tokens - 1), model)


def _used(model: str, tenant: str, usage: f.Usage, price: int) -> None:
    for kind in TOKEN_KINDS:
        if tokens := getattr(usage, kind):
            TOKENS.add(model, kind, by=tokens)
    if tokens := usage.input + usage.output:
        TENANT_TOKENS.add(tenant, by=tokens)
    if price:
        COST.add(model, by=price / _MICRO_CENTS)
        TENANT_COST.add(tenant, by=price / _MICRO_CENTS)


def busy(model: str, slots: int, waiting: int, stats: EngineStats) -> None:
    """How full the worker is now; `waiting` are the model calls that wait in it."""
    SLOTS.set(slots, model)
    SLOTS_USED.set(stats.running, model)
    CALLS_WAITING.set(waiting, model)
    PREFIXES_BROKEN.set(stats.prefixes_broken, model)
    ENDPOINT_OUT.set(bool(stats.out), model)
    KV_BLOCKS.set(stats.blocks_free, model, "free")
    KV_BLOCKS.set(stats.blocks_cached, model, "cached")
    held = stats.blocks_total - stats.blocks_free - stats.blocks_cached
    KV_BLOCKS.set(max(0, held), model, "held")
