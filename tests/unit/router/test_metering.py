"""What the router counts."""

from __future__ import annotations

from services.router.adapters import metering
from shared.contracts.agents import Sampling
from shared.contracts.base import SessionRef
from shared.contracts.work import InferStep, RouteStep, Target
from shared.contracts.workers import WorkerState
from shared.metrics.catalogue import ROUTED, STEP_SECONDS, WORKERS
from shared.subjects import CONSUMERS, infer_consumer, queue_of, sessions_consumer
from shared.subjects.streams import shared_infer_consumer, spending_consumer
from tests.fakes.counted import Moved, value


def step(worker: str, attempt: int = 1) -> InferStep:
    route = RouteStep(
        ref=SessionRef("acme", "s"),
        task="t",
        step=0,
        route="r",
        seq=1,
        sampling=Sampling(),
        asked=100.0,
        attempt=attempt,
    )
    return InferStep(route=route, target=Target("m", worker), published=100.25)


def test_placements_are_counted_by_where_they_went() -> None:
    worker, lane, direct = (Moved(ROUTED, "m", place) for place in metering.PLACES)
    took = Moved(STEP_SECONDS, "route", part="_sum")
    metering.routed(step("w1"))
    metering.routed(step("any", attempt=2))  # the time of a repetition says nothing
    metering.forwarded(Target("m", "w1"))
    assert (worker.by, lane.by, direct.by, took.by) == (1, 1, 1, 0.25)


def test_a_model_without_workers_has_none_and_one_that_is_gone_is_not_shown() -> None:
    nano = WorkerState(worker="w", model="nano", engine="e", slots=1)
    metering.known([nano, nano], ["nano", "gpt"])
    assert (value(WORKERS, "nano"), value(WORKERS, "gpt")) == (2, 0)
    metering.known([], ["gpt"])
    [family] = WORKERS.collect()
    assert [sample.labels["model"] for sample in family.samples] == ["gpt"]


def test_consumers_are_counted_as_queues_of_which_there_are_few() -> None:
    assert queue_of(sessions_consumer(7).name) == "sessions"
    assert queue_of(spending_consumer("r1").name) == "spending"
    assert queue_of(infer_consumer("nano", "host-1").name) == "infer-w"
    assert queue_of(f"rescue-{infer_consumer('nano', 'x').name}") == "rescue"
    assert queue_of(shared_infer_consumer("gpt-5", "batch.3").name) == "infer-gpt-5"
    assert {queue_of(one.name) for one in CONSUMERS} >= {"router", "ledger", "retrieval", "tools"}
