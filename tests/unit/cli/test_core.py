"""Words, bars, lines and the state of the live display."""

from __future__ import annotations

import pytest

from services.cli.core import words
from services.cli.core.checks import (
    DAY,
    Check,
    certificate_check,
    disk_check,
    python_check,
    server_check,
    streams_check,
    verdict,
    version_of,
)
from services.cli.core.describe import call_text, describe
from services.cli.core.limits import limits_of
from services.cli.core.live import View, advance
from services.cli.core.waterfall import bars, span_s
from shared.contracts import facts as f
from shared.contracts.agents import LimitsPatch
from shared.contracts.log import Event
from shared.contracts.tokens import TokenDelta
from shared.errors import Failure, Permanent
from shared.subjects import FACT_KINDS
from shared.timeline import timeline
from tests.contract.examples import EXAMPLES
from tests.fakes.ledger_log import CALL, START, Recorder, arithmetic, eventful, inferred


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0.42, "0.4 ms"), (38.4, "38 ms"), (999.6, "1.00 s"), (1_240, "1.24 s"),
        (61_000, "61.0 s"), (125_000, "2 m 05 s"), (11_400_000, "3 h 10 m"),
    ],
)  # fmt: skip
def test_durations(ms: float, text: str) -> None:
    assert words.duration(ms) == text


@pytest.mark.parametrize(
    ("price", "text"),
    [(0, "$0"), (3_000, "$0.00003"), (250_000_000, "$2.50"), (1, "$0.00000001")],
)
def test_money(price: int, text: str) -> None:
    assert words.money(price) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "now"), (12.7, "12 s ago"), (190, "3 m ago"), (7_300, "2 h ago"), (4e5, "4 d ago")],
)
def test_ages(seconds: float, text: str) -> None:
    assert words.ago(seconds) == text


def test_sizes_and_tokens() -> None:
    assert [words.size(n) for n in (512, 3_400_000_000, 5e12)] == ["512 B", "3.4 GB", "5.0 TB"]
    assert words.tokens(f.Usage(input=1_200, cached=64, output=9)) == "1,200 in (64 cached), 9 out"


def test_text_from_elsewhere_cannot_steer_the_terminal() -> None:
    assert words.printable("a\x1b[31mb\x07\nc\x9b") == "a[31mb\nc"
    assert words.clip("a\n\x1b[2J b" * 9, 10) == "a [2J ba …"


def test_limits() -> None:
    assert limits_of("") is None
    assert limits_of("steps=3, seconds=2.5") == LimitsPatch(max_steps=3, deadline_s=2.5)
    for wrong in ("steps", "steps=0", "steps=-1", "seconds=x", "moons=2"):
        with pytest.raises(Permanent, match="invalid_limit"):
            limits_of(wrong)


def test_calls_read_like_code() -> None:
    assert call_text("add", '{"a": 1, "b": "x"}') == 'add(a=1, b="x")'
    assert call_text("add", "") == "add()"
    assert call_text("add", "{broken") == "add({broken)"
    assert call_text("add", "[1]") == "add([1])"


def test_every_kind_of_fact_has_a_line() -> None:
    told = {type(stored.fact) for stored in eventful() if describe(stored.fact).text}
    told |= {kind.type for kind in FACT_KINDS if describe(EXAMPLES[kind.type]).text}
    assert told == {kind.type for kind in FACT_KINDS}


def test_versions() -> None:
    assert version_of("2.15.0-RC.1") == (2, 15, 0)
    assert version_of("v2.9.x") == (2, 9)
    assert server_check("2.15.0").outcome == "ok"
    assert server_check("2.9.25").outcome == "failed"
    assert python_check((3, 11, 9)).outcome == "failed"


@pytest.mark.parametrize(
    ("days", "outcome", "found"),
    [
        (824.9, "ok", "the certificate ends in 824 days"),
        (30.0, "ok", "the certificate ends in 30 days"),
        (29.9, "warning", "the certificate ends in 29 days"),
        (0.5, "warning", "the certificate ends in 0 days"),
        (-0.1, "failed", "the certificate has ended"),
    ],
)
def test_a_certificate_that_ends_soon_is_said(days: float, outcome: str, found: str) -> None:
    check = certificate_check(days * DAY)
    assert (check.outcome, check.found) == (outcome, found)
    assert bool(check.fix) is (outcome != "ok")


def test_checks() -> None:
    assert [disk_check(n, "").outcome for n in (5 * 10**9, 10**9, 10**6)] == [
        "ok",
        "warning",
        "failed",
    ]
    assert "WORK" in streams_check({"RUNS"}, ["RUNS", "WORK"]).found
    assert not verdict([streams_check({"RUNS"}, ["RUNS"]), Check("x", "failed", "")])


def test_bars_lie_one_after_the_other_and_within_the_width() -> None:
    log = Recorder()
    arithmetic(log)
    line = timeline(log.facts, "t1")
    assert line is not None
    drawn = bars(line, 42, START + 60)
    assert [bar.offset for bar in drawn] == [1, drawn[0].end, drawn[1].end]
    assert [bar.row.step for bar in drawn if bar.queued] == [0]
    assert drawn[0].busy > 10 * drawn[0].own
    assert all(bar.end <= 42 and bar.busy >= 1 for bar in drawn)


def test_a_running_task_stretches_to_now() -> None:
    log = Recorder()
    log.submit("t1", 0.0)
    log.accept("t1", 0.1)
    line = timeline(log.facts, "t1")
    assert line is not None
    assert span_s(line, START + 10) == pytest.approx(10.0)
    (bar,) = bars(line, 40, START + 10)
    assert bar.end == 40


def event(data: object, kind: str = "delta") -> Event:
    return Event("1", kind, START, "t1", data)  # type: ignore[arg-type]  # facts and deltas


def delta(text: str, index: int, step: int = 0, attempt: int = 1) -> Event:
    return event(TokenDelta(task="t1", step=step, index=index, text=text, attempt=attempt))


def fold(*events: Event) -> View:
    view = View()
    for one in events:
        view = advance(view, one)
    return view


def test_deltas_stream_into_text() -> None:
    assert fold(delta("It ", 0), delta("is", 1)).text == "It is"


def test_a_newer_attempt_starts_the_text_again_and_an_older_one_is_dropped() -> None:
    view = fold(delta("It ", 0), delta("Yes", 0, attempt=2), delta("is", 1))
    assert view.text == "Yes"


def test_calls_run_until_their_result() -> None:
    asked = event(inferred("t1", 0, calls=(CALL,)), "inferred")
    done = f.ToolDone(task="t1", step=1, call="c1", name="calculator", result="391", duration_ms=3)
    view = fold(delta("hm", 0), asked)
    assert [step.state for step in view.steps] == ["ok", "running"]
    assert view.text == ""
    after = advance(view, event(done, "tool_done"))
    assert [step.state for step in after.steps] == ["ok", "ok"]
    assert after.steps[1].detail == "391"


def test_a_call_id_that_repeats_changes_its_own_line_only() -> None:
    first = f.ToolDone(task="t1", step=1, call="c1", name="calculator", result="1")
    view = fold(
        event(inferred("t1", 0, calls=(CALL,))),
        event(first),
        event(inferred("t1", 2, calls=(CALL,))),
        event(f.ToolFailed(task="t1", step=3, call="c1", name="calculator",
                           error=Failure(code="tool_error"))),
    )  # fmt: skip
    assert [(step.state, step.detail) for step in view.steps if step.key == "c1"] == [
        ("ok", "1"),
        ("failed", "tool_error"),
    ]


def test_a_second_result_changes_nothing() -> None:
    one = event(inferred("t1", 0, content="yes"))
    assert fold(one, event(inferred("t1", 0, content="no")), delta("late", 3)) == fold(one)


PARKED = f.Parked(task="t1", step=1, reason="approval", detail="asks first")


def test_a_call_waits_for_a_person_and_goes_on() -> None:
    asked = event(inferred("t1", 0, calls=(CALL,)))
    view = fold(asked, event(PARKED))
    assert [(step.state, step.detail) for step in view.steps[1:]] == [
        ("parked", "step 1 waits: approval asks first")
    ]
    view = advance(view, event(f.Approved(task="t1", step=1, by="kim")))
    assert [(step.state, step.detail) for step in view.steps[1:]] == [
        ("running", "approved by kim")
    ]
    done = f.ToolDone(task="t1", step=1, call="c1", name="calculator", result="391")
    assert [step.state for step in advance(view, event(done)).steps] == ["ok", "ok"]


def test_a_rejected_call_shows_the_error_that_the_model_reads() -> None:
    view = fold(event(inferred("t1", 0, calls=(CALL,))), event(PARKED))
    view = advance(view, event(f.Rejected(task="t1", step=1, note="no")))
    failed = f.ToolFailed(
        task="t1", step=1, call="c1", name="calculator", error=Failure(code="rejected")
    )
    assert [step.state for step in advance(view, event(failed)).steps] == ["ok", "failed"]


def test_a_budget_that_is_used_up_waits_in_front_of_a_model_call() -> None:
    budget = f.Parked(task="t1", step=2, reason="budget")
    view = fold(event(budget))
    assert [(step.label, step.state) for step in view.steps] == [("model", "parked")]
    view = advance(view, event(f.Approved(task="t1", step=2)))
    view = advance(view, event(inferred("t1", 2, content="yes")))
    assert [(step.label, step.state) for step in view.steps] == [("nano", "ok")]


def test_a_try_that_failed_leaves_the_call_running() -> None:
    here = {"task": "t1", "step": 1, "call": "c1", "name": "calculator"}
    again = f.ToolFailed(**here, error=Failure(code="busy"), retry=True)
    view = fold(event(inferred("t1", 0, calls=(CALL,))), event(again))
    assert view.steps[1].state == "running"
    assert "attempt 1: busy" in view.steps[1].detail
    view = advance(view, event(f.ToolDone(**here, result="391", attempt=2)))
    assert [step.state for step in view.steps] == ["ok", "ok"]


def test_what_is_said_to_a_task_stands_among_its_steps() -> None:
    view = fold(event(f.Steered(task="t1", id="s1", text="in German", by="kim")))
    assert [(step.label, step.state) for step in view.steps] == [("kim: in German", "said")]
