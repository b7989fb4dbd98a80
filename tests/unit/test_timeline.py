"""The waterfall's arithmetic over recorded facts."""

from __future__ import annotations

import pytest

from shared.contracts import facts as f
from shared.contracts.log import Malformed, StoredFact
from shared.errors import Failure
from shared.timeline import Timeline, overheads, p50, timeline
from tests.fakes.ledger_log import CALL, REF, START, Recorder, arithmetic, inferred

OTHER = f.ToolCall(id="c2", name="clock", arguments="{}")


def recorded(log: Recorder, task: str = "t1") -> Timeline:
    found = timeline(log.facts, task)
    assert found is not None
    return found


def tool(step: int, call: str = "c1", ms: float = 3.0) -> f.ToolDone:
    return f.ToolDone(
        task="t1", step=step, call=call, name="calculator", result="391", duration_ms=ms
    )


def started() -> Recorder:
    log = Recorder()
    log.submit("t1", 0.0)
    log.accept("t1", 0.010)
    return log


def test_a_finished_task_has_its_steps_in_order() -> None:
    log = Recorder()
    arithmetic(log)
    line = recorded(log)
    assert [(row.step, row.kind, row.label, row.status) for row in line.rows] == [
        (0, "infer", "nano", "ok"),
        (1, "tool", "calculator", "ok"),
        (2, "infer", "nano", "ok"),
    ]
    assert (line.status, line.agent, line.question) == ("completed", "assistant", "17 * 23?")
    assert (line.totals.steps, line.output) == (3, "It is 391.")
    assert line.queue_ms == pytest.approx(2.0, abs=0.01)
    assert line.done - line.submitted == pytest.approx(0.084, abs=1e-5)


def test_overhead_is_the_gap_without_model_and_tool() -> None:
    log = Recorder()
    arithmetic(log)
    line = recorded(log)
    assert overheads(line) == pytest.approx([4.0, 2.0, 2.0], abs=0.01)
    assert p50(overheads(line)) == pytest.approx(2.0, abs=0.01)
    assert line.rows[0].queued_ms == 1.0


def test_without_values_there_is_no_median() -> None:
    assert p50([]) is None


def test_parallel_tools_start_together_and_the_model_waits_for_the_last() -> None:
    log = started()
    log.add(inferred("t1", 0, calls=(CALL, OTHER), total_ms=30.0), 0.050)
    log.add(tool(2, "c2", 5.0), 0.060)
    log.add(tool(1, "c1", 40.0), 0.100)
    log.add(inferred("t1", 3, total_ms=20.0), 0.121)
    rows = recorded(log).rows
    assert [row.start for row in rows] == pytest.approx([0.010, 0.050, 0.050, 0.100], abs=1e-5)
    assert rows[1].arguments == CALL.arguments
    assert rows[3].overhead_ms == pytest.approx(1.0, abs=0.01)


def test_the_first_result_of_a_step_counts() -> None:
    log = started()
    log.add(inferred("t1", 0, usage=f.Usage(output=5)), 0.060)
    log.add(inferred("t1", 0, usage=f.Usage(output=9)), 0.070)
    line = recorded(log)
    assert len(line.rows) >= 1
    assert line.totals.usage.output == 5


def test_a_retried_step_tells_no_overhead() -> None:
    log = started()
    log.add(f.InferFailed(task="t1", step=0, error=Failure(code="engine_failed")), 0.050)
    log.add(inferred("t1", 0, attempt=2), 0.500)
    (row, *_) = recorded(log).rows
    assert (row.attempt, row.overhead_ms) == (2, None)


def test_a_step_that_only_failed_is_a_failed_row() -> None:
    log = started()
    log.add(f.InferFailed(task="t1", step=0, error=Failure(code="engine_failed")), 0.050)
    log.add(f.Done(task="t1", status="failed", error=Failure(code="engine_failed")), 0.051)
    line = recorded(log)
    assert [(row.status, row.error) for row in line.rows] == [("failed", "engine_failed")]
    assert (line.status, line.error) == ("failed", "engine_failed")


def test_calls_without_an_answer_are_running() -> None:
    log = started()
    log.add(inferred("t1", 0, calls=(CALL, OTHER)), 0.060)
    log.add(tool(1), 0.070)
    rows = recorded(log).rows
    assert [(row.step, row.label, row.status) for row in rows[2:]] == [(2, "clock", "running")]
    assert rows[2].start == pytest.approx(0.060, abs=1e-5)
    assert rows[2].end is None


def test_a_model_call_under_way_is_running_from_the_last_result_on() -> None:
    log = started()
    assert [(row.kind, row.status) for row in recorded(log).rows] == [("infer", "running")]
    log.add(inferred("t1", 0, calls=(CALL,)), 0.060)
    log.add(tool(1), 0.070)
    rows = recorded(log).rows
    assert (rows[-1].step, rows[-1].kind, rows[-1].status) == (2, "infer", "running")
    assert rows[-1].start == pytest.approx(0.070, abs=1e-5)


def test_a_queued_task_has_no_rows_yet() -> None:
    log = Recorder()
    log.submit("t1", 0.0)
    line = recorded(log)
    assert (line.status, line.rows, line.queue_ms) == ("queued", (), 0.0)


def test_other_tasks_of_the_session_are_left_out() -> None:
    log = Recorder()
    arithmetic(log)
    arithmetic(log, "t2", 1.0)
    assert recorded(log, "t2").submitted == pytest.approx(START + 1.0)
    assert len(recorded(log, "t2").rows) == 3
    assert timeline(log.facts, "t9") is None


def test_a_malformed_submission_still_has_a_timeline() -> None:
    bad = Malformed(error=Failure(code="invalid_message"))
    done = f.Done(task="t1", status="failed", error=Failure(code="invalid_task", detail="no input"))
    facts = [
        StoredFact(1, START, REF, "task", "assistant", "t1", bad),
        StoredFact(2, START + 0.002, REF, "done", "t1", "t1", done),
    ]
    line = timeline(facts, "t1")
    assert line is not None
    assert (line.status, line.agent, line.error) == (
        "failed",
        "assistant",
        "invalid_task: no input",
    )


def test_a_parked_step_stops_the_task_and_says_why() -> None:
    log = started()
    log.add(inferred("t1", 0, calls=(CALL, OTHER)), 0.060)
    log.add(tool(1), 0.070)
    log.add(f.Parked(task="t1", step=2, reason="approval", detail="asks first"), 0.071)
    line = recorded(log)
    assert (line.status, line.rows[-1].status, line.rows[-1].waits) == (
        "parked",
        "parked",
        "approval",
    )
    assert [note.kind for note in line.notes] == ["parked"]
    log.add(f.Approved(task="t1", step=2, by="kim"), 1.0)
    line = recorded(log)
    assert (line.status, line.rows[-1].status) == ("running", "running")


def test_a_task_that_waits_for_its_budget_waits_before_the_next_call() -> None:
    log = started()
    log.add(inferred("t1", 0, calls=(CALL,)), 0.060)
    log.add(tool(1), 0.070)
    log.add(f.Parked(task="t1", step=2, reason="budget"), 0.071)
    row = recorded(log).rows[-1]
    assert (row.step, row.kind, row.status, row.waits) == (2, "infer", "parked", "budget")


def test_tries_before_a_result_belong_to_its_row() -> None:
    busy = Failure(code="busy", family="transient")
    here = {"task": "t1", "step": 1, "call": "c1", "name": "calculator"}
    log = started()
    log.add(f.InferFailed(task="t1", step=0, error=busy), 0.02)
    log.add(inferred("t1", 0, calls=(CALL,), attempt=2), 0.060)
    log.add(f.ToolFailed(**here, error=busy, retry=True), 0.070)
    (model, running) = recorded(log).rows
    assert [one.code for one in model.tries] == ["busy"]
    assert (running.status, len(running.tries), running.arguments) == ("running", 1, CALL.arguments)
    log.add(f.ToolDone(**here, result="391", attempt=2), 0.9)
    row = recorded(log).rows[1]
    assert (row.status, row.attempt, len(row.tries), row.overhead_ms) == ("ok", 2, 1, None)


def test_a_last_failure_is_the_row_and_the_ones_before_are_its_tries() -> None:
    log = started()
    for attempt in (1, 2):
        error = Failure(code=f"busy{attempt}")
        log.add(f.InferFailed(task="t1", step=0, error=error, attempt=attempt), 0.02 * attempt)
    (row,) = recorded(log).rows
    assert (row.status, row.error, [one.code for one in row.tries]) == (
        "failed",
        "busy2",
        ["busy1"],
    )


def test_a_fork_shows_what_it_took_over_without_the_gap() -> None:
    log = started()
    log.add(inferred("t1", 0, calls=(CALL,)), 0.100)
    log.add(tool(1), 0.110)
    log.add(f.Forked(parent="s0", at=4, task="t1", step=2), 9000.0)
    log.add(inferred("t1", 2, total_ms=40.0), 9000.050)
    line = recorded(log)
    assert [row.step for row in line.rows] == [0, 1, 2]
    assert line.rows[2].overhead_ms == pytest.approx(10.0, abs=0.1)
    assert line.rows[2].start == pytest.approx(0.110, abs=0.001)
