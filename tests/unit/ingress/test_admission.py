"""How much waits, and what a client is told."""

from __future__ import annotations

import pytest

from services.ingress.core.access.admission import Lane, Pressure, pressure, wait_for
from shared.contracts.workers import WorkerState


def worker(slots: int, running: int = 0, waiting: int = 0) -> WorkerState:
    return WorkerState(
        worker="w", model="m", engine="e", slots=slots, running=running, waiting=waiting
    )


@pytest.mark.parametrize(
    ("lanes", "workers", "waiting"),
    [
        ((), (), 0),
        ((Lane(5, 0, 0),), (), 5),
        ((Lane(5, 8, 0),), (worker(8, running=8),), 5),
        ((Lane(0, 3, 0),), (worker(8, running=3),), 0),
        # stateless completions are in no lane: the engines tell of them
        ((Lane(0, 0, 0),), (worker(8, running=8, waiting=20),), 20),
        # what an engine has pulled is in both, and counts once
        ((Lane(0, 28, 0),), (worker(8, running=8, waiting=20),), 20),
        # a worker that is gone leaves what it held to others
        ((Lane(2, 30, 0), Lane(1, 0, 0)), (worker(4, running=4),), 29),
    ],
)
def test_what_waits(
    lanes: tuple[Lane, ...], workers: tuple[WorkerState, ...], waiting: int
) -> None:
    assert pressure(lanes, workers, 1.0).waiting == waiting


@pytest.mark.parametrize(
    ("found", "bound", "seconds"),
    [
        (Pressure(9, 1.0), 10, None),
        (Pressure(10_000, 1.0), 0, None),
        (Pressure(10, 4.0), 10, 1.0),
        (Pressure(49, 4.0), 10, 10.0),
        (Pressure(5000, 1.0), 10, 60.0),
        (Pressure(10, 0.0), 10, 10.0),
    ],
)
def test_when_to_come_again(found: Pressure, bound: int, seconds: float | None) -> None:
    assert wait_for(found, bound) == seconds
