"""`cancel`, `steer`, `approve`, `reject`, `retry`: what is asked for, and how a refusal looks."""

from __future__ import annotations

import pytest

from shared.contracts import facts as f
from shared.contracts.agents import LimitsPatch
from shared.contracts.control import ApproveStep, RejectStep, RetryTask, SteerTask
from shared.errors import Failure, Permanent, Transient, error_of
from tests.fakes.ledger_log import CALL, Recorder, inferred
from tests.unit.cli.conftest import Cli


@pytest.fixture
def parked(recorded: Recorder) -> None:
    """A second task, of which step 1 waits."""
    recorded.submit("t2", 1.0)
    recorded.accept("t2", 1.1)
    recorded.add(inferred("t2", 0, calls=(CALL,)), 1.2)
    recorded.add(f.Parked(task="t2", step=1, reason="approval", detail="asks first"), 1.3)


def test_cancel_says_which_fact_records_it(cli: Cli) -> None:
    assert cli("cancel", "t1", "--reason", "enough").out == "asked to cancel t1 (fact 99)\n"
    assert cli("cancel", "t1", "--json").json() == {"task": "t1", "session": "s1", "sequence": 99}
    assert cli.system.cancelled == [("t1", "cli")] * 2


def test_steer_says_something(cli: Cli) -> None:
    assert cli("steer", "t1", "in German", "--by", "kim", "--json").json()["sequence"] == 101
    ((verb, order),) = cli.system.orders
    assert (verb, type(order), order.text, order.by) == ("steer", SteerTask, "in German", "kim")
    outcome = cli("steer", "t1", "  ")
    assert (outcome.code, "invalid_text" in outcome.err) == (1, True)


@pytest.mark.usefixtures("parked")
def test_approve_finds_the_step_that_waits(cli: Cli) -> None:
    assert "fact 101" in cli("approve", "t2", "--note", "fine").out
    assert cli.system.orders == [("approve", ApproveStep(task="t2", step=1, by="cli", note="fine"))]


def test_approve_with_all_that_can_be_changed(cli: Cli) -> None:
    cli("approve", "t1", "3", "--arguments", '{"path": "/tmp"}', "--by", "kim")
    cli("approve", "t1", "3", "--result", "done by hand")
    cli("approve", "t1", "4", "--max-steps", "50", "--max-tokens", "9", "--max-cost", "0.25")
    assert [order for _, order in cli.system.orders] == [
        ApproveStep(task="t1", step=3, by="kim", arguments='{"path": "/tmp"}'),
        ApproveStep(task="t1", step=3, by="cli", result="done by hand"),
        ApproveStep(
            task="t1",
            step=4,
            by="cli",
            limits=LimitsPatch(max_steps=50, max_tokens=9, max_cost=25_000_000),
        ),
    ]


@pytest.mark.usefixtures("parked")
def test_reject_and_its_note(cli: Cli) -> None:
    assert cli("reject", "t2", "--note", "not today", "--json").json()["sequence"] == 101
    assert cli.system.orders == [
        ("reject", RejectStep(task="t2", step=1, by="cli", note="not today"))
    ]


def test_nothing_waits(cli: Cli) -> None:
    outcome = cli("approve", "t1")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("millrace: not_parked: ")


@pytest.mark.usefixtures("parked")
def test_several_steps_wait(cli: Cli, recorded: Recorder) -> None:
    recorded.add(f.Parked(task="t2", step=2, reason="approval"), 1.4)
    outcome = cli("reject", "t2")
    assert outcome.code == 2
    assert "say which: 1, 2" in outcome.err


def test_retry_names_the_new_task(cli: Cli) -> None:
    assert cli("retry", "t1", "--json").json() == {
        "task": "t1", "session": "s1", "retry_of": "t1",
    }  # fmt: skip
    ((verb, order),) = cli.system.orders
    assert (verb, order) == ("retry", RetryTask(task="t1", retry="t1", by="cli"))
    outcome = cli("retry", "t1", "--follow")
    assert (outcome.code, outcome.out) == (0, "It is 391.\n")


@pytest.mark.parametrize(
    "code",
    ["task_ended", "unknown_task", "not_parked", "not_running", "not_failed", "superseded"],
)
@pytest.mark.parametrize("verb", [("steer", "t1", "x"), ("reject", "t1", "1"), ("retry", "t1")])
def test_a_refusal_is_one_line(cli: Cli, code: str, verb: tuple[str, ...]) -> None:
    cli.system.refusal = error_of(Failure(code=code, detail="no"))
    outcome = cli(*verb)
    assert (outcome.code, outcome.out, outcome.err) == (1, "", f"millrace: {code}: no\n")


def test_without_sessions_the_doctor_is_named(cli: Cli) -> None:
    cli.system.refusal = Transient("no_responders", "nobody answers control.default.s1.steer")
    assert "millrace doctor" in cli("steer", "t1", "x").err
    assert cli("steer", "t9", "x").err.startswith("millrace: unknown_task")


def test_run_says_what_becomes_of_it_on_a_busy_session(cli: Cli) -> None:
    cli("run", "q", "--on-busy", "interrupt", "--limits", "cost=0.5,repeats=3")
    assert cli.system.busy == ["interrupt"]
    assert cli.system.asked[0][3] == LimitsPatch(max_cost=50_000_000, max_repeats=3)
    assert cli("run", "q", "--on-busy", "panic").code == 2


@pytest.mark.usefixtures("parked")
def test_show_says_what_a_task_waits_for(cli: Cli) -> None:
    text = cli("show", "t2").out
    assert "t2  parked" in text
    assert "waits: approval" in text
    assert "⏸ 300 ms  step 1 parked: approval: asks first" in text
    row = cli("show", "t2", "--json").json()["timeline"]["rows"][1]
    assert (row["status"], row["waits"]) == ("parked", "approval")


def test_show_counts_the_tries(cli: Cli, recorded: Recorder) -> None:
    recorded.submit("t2", 1.0)
    recorded.accept("t2", 1.1)
    error = Failure(code="worker_lost", family="transient")
    recorded.add(f.InferFailed(task="t2", step=0, error=error), 1.2)
    recorded.add(inferred("t2", 0, content="yes", attempt=2), 1.4)
    recorded.add(f.Steered(task="t2", id="s", text="in German", by="kim"), 1.5)
    text = cli("show", "t2").out
    assert "attempt 2 after worker_lost" in text
    assert "↪ 500 ms  steered by kim: in German" in text


def test_permanent_errors_keep_their_code() -> None:
    assert isinstance(error_of(Failure(code="superseded")), Permanent)
