"""The loop's meter says of a task what its waterfall says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.sessions.adapters.metering import LoopMeter
from shared.contracts import facts as f
from shared.errors import Failure
from shared.metrics.catalogue import MESSAGE_WAIT, STEP_SECONDS, TASK_SECONDS, TASKS_ENDED
from shared.timeline import overheads, timeline
from tests.fakes.counted import Moved
from tests.fakes.ledger_log import Recorder, arithmetic, inferred


def overhead() -> tuple[Moved, Moved]:
    return tuple(Moved(STEP_SECONDS, "overhead", part=part) for part in ("_count", "_sum"))  # type: ignore[return-value]  # two


def saw(log: Recorder, meter: LoopMeter | None = None) -> LoopMeter:
    meter = meter or LoopMeter()
    for stored in log.facts:
        meter.saw(stored, stored.time + 0.5)
    return meter


def wanted(log: Recorder) -> list[float]:
    line = timeline(log.facts, "t1")
    assert line is not None
    return [one / 1000 for one in overheads(line)]


def test_overhead_is_that_of_the_waterfall() -> None:
    log, (count, total) = Recorder(), overhead()
    arithmetic(log)
    saw(log)
    assert count.by == len(wanted(log)) == 3
    assert total.by == pytest.approx(sum(wanted(log)), abs=1e-6)


def test_a_step_that_was_tried_again_is_left_out_as_there() -> None:
    log, (count, total) = Recorder(), overhead()
    log.submit("t1", 0.0)
    log.accept("t1", 0.010)
    log.add(f.InferFailed(task="t1", step=0, error=Failure(code="x")), 0.020)
    log.add(inferred("t1", 0), 0.9)
    log.add(inferred("t1", 1), 1.0)
    saw(log)
    assert count.by == len(wanted(log)) == 1
    assert total.by == pytest.approx(sum(wanted(log)), abs=1e-6)


def test_what_is_read_again_is_not_counted_again() -> None:
    log, ended = Recorder(), Moved(TASKS_ENDED, "completed")
    waits, tasks = (
        Moved(MESSAGE_WAIT, "sessions", part="_count"),
        Moved(TASK_SECONDS, part="_count"),
    )
    arithmetic(log)
    saw(log, saw(log))
    assert (ended.by, tasks.by, waits.by) == (1, 1, len(log.facts))


def test_a_task_whose_beginning_was_seen_elsewhere_only_ends() -> None:
    log, ended = Recorder(), Moved(TASKS_ENDED, "completed")
    (count, _), tasks = overhead(), Moved(TASK_SECONDS, part="_count")
    arithmetic(log)
    meter = LoopMeter()
    for stored in log.facts[3:]:
        meter.saw(replace(stored), stored.time)
    assert (ended.by, tasks.by, count.by) == (1, 0, 0)
