"""What a worker counts of its answers, and how full it says it is."""

from __future__ import annotations

import pytest

from services.inference.adapters import metering
from services.inference.ports import EngineStats
from shared.contracts import facts as f
from shared.contracts.agents import Sampling
from shared.contracts.base import SessionRef
from shared.contracts.work import InferStep, RouteStep, Target
from shared.errors import Failure
from shared.metrics.catalogue import (
    COST,
    ENDPOINT_OUT,
    FIRST_TOKEN,
    KV_BLOCKS,
    MODEL_CALLS,
    SLOTS,
    STEP_SECONDS,
    TENANT_COST,
    TENANT_TOKENS,
    TOKEN_GAP,
    TOKENS,
)
from tests.fakes.counted import Moved, value

WORK = InferStep(
    route=RouteStep(
        ref=SessionRef("acme", "s"), task="t", step=0, route="r", seq=1, sampling=Sampling()
    ),
    target=Target("m"),
)
FACT = f.Inferred(
    task="t",
    step=0,
    usage=f.Usage(input=100, cached=60, output=11, reasoning=4),
    price=2_000_000,
    timings=f.Timings(queued_ms=5.0, first_token_ms=200.0, total_ms=1200.0),
)


def test_an_answer_is_counted_with_its_tokens_times_and_money() -> None:
    calls, cost = Moved(MODEL_CALLS, "m", "step", "ok"), Moved(COST, "m")
    tenant, spent = Moved(TENANT_TOKENS, "acme"), Moved(TENANT_COST, "acme")
    tokens = {kind: Moved(TOKENS, "m", kind) for kind in metering.TOKEN_KINDS}
    first, gap = Moved(FIRST_TOKEN, "m", part="_sum"), Moved(TOKEN_GAP, "m", part="_sum")
    queue = Moved(STEP_SECONDS, "queue", part="_sum")
    model = Moved(STEP_SECONDS, "model", part="_sum")
    metering.stepped("m", WORK, [FACT])
    found = {kind: one.by for kind, one in tokens.items()}
    assert found == {"input": 100, "cached": 60, "output": 11, "reasoning": 4}
    assert (calls.by, cost.by, spent.by, tenant.by) == (1, 2.0, 2.0, 111)
    assert (first.by, gap.by) == pytest.approx((0.2, 0.1))
    assert (queue.by, model.by) == pytest.approx((0.005, 1.2))


def test_an_answer_from_a_cache_took_no_time_of_a_model() -> None:
    calls, times = (
        Moved(MODEL_CALLS, "m", "step", "ok"),
        Moved(STEP_SECONDS, "model", part="_count"),
    )
    metering.stepped("m", WORK, [f.Inferred(task="t", step=0, cached=True)])
    assert (calls.by, times.by) == (1, 0)


def test_a_step_that_failed_and_one_that_nobody_waits_for() -> None:
    failed, aborted = (Moved(MODEL_CALLS, "m", "step", one) for one in ("failed", "aborted"))
    metering.stepped("m", WORK, [f.InferFailed(task="t", step=0, error=Failure(code="x"))])
    metering.stepped("m", WORK, [])
    assert (failed.by, aborted.by) == (1, 1)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (Failure(code="client_gone"), "aborted"),
        (Failure(code="engine_unavailable"), "failed"),
    ],
)
def test_a_completion_is_counted_by_its_end_and_its_tokens_in_any_case(
    error: Failure | None, outcome: str
) -> None:
    calls, tokens = Moved(MODEL_CALLS, "m", "completion", outcome), Moved(TENANT_TOKENS, "acme")
    usage = f.Usage(input=3, output=2)
    fact = f.Completed(id="d", model="m", worker="w", usage=usage, error=error)
    metering.completed("m", "acme", fact)
    assert (calls.by, tokens.by) == (1, 5)


def test_how_full_a_worker_is() -> None:
    stats = EngineStats(
        running=3,
        waiting=1,
        capacity=8,
        blocks_total=100,
        blocks_free=40,
        blocks_cached=25,
        tokens_generated=0,
        out="no key",
    )
    metering.busy("m", 8, 4, stats)
    held = [value(KV_BLOCKS, "m", state) for state in ("free", "cached", "held")]
    assert (held, value(SLOTS, "m"), value(ENDPOINT_OUT, "m")) == ([40, 25, 35], 8, 1)
