"""Counts what the router decides, and the workers that it knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from shared.contracts.work import InferStep, Target
from shared.contracts.workers import WorkerState
from shared.metrics.catalogue import ROUTED, STEP_SECONDS, WORKERS, WORKERS_LOST

PLACES = ("worker", "lane", "direct")


def show(models: Iterable[str]) -> None:
    """Have everything about these models there from the start, at 0."""
    STEP_SECONDS.show("route")
    for model in models:
        for place in PLACES:
            ROUTED.show(model, place)


def routed(step: InferStep) -> None:
    """A model call of a task was placed."""
    ROUTED.add(step.target.model, "lane" if step.target.worker == "any" else "worker")
    if step.route.asked and step.route.attempt == 1:
        STEP_SECONDS.observe(step.published - step.route.asked, "route")


def forwarded(target: Target) -> None:
    """A stateless completion was placed."""
    ROUTED.add(target.model, "direct")


def known(workers: Iterable[WorkerState], models: Iterable[str]) -> None:
    """These are alive; `models` are the ones that there should be workers of."""
    found: Counter[tuple[str, ...]] = Counter({(model,): 0 for model in models})
    found.update((one.model,) for one in workers)
    WORKERS.replace(dict(found))


def lost(_worker: WorkerState) -> None:
    """One went silent."""
    WORKERS_LOST.add()
