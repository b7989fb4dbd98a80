"""What the tools service counts."""

from __future__ import annotations

from services.tools.adapters import metering
from shared.contracts.facts import Parked, ToolDone, ToolFailed
from shared.errors import Failure
from shared.metrics.catalogue import TOOL_CALLS, TOOL_SECONDS
from tests.fakes.counted import Moved


def test_calls_are_counted_by_tool_and_outcome() -> None:
    ok, failed = (Moved(TOOL_CALLS, "clock", outcome) for outcome in ("ok", "failed"))
    seconds = Moved(TOOL_SECONDS, "clock", part="_sum")
    done = ToolDone(task="t", step=1, call="c", name="clock", result="", duration_ms=250.0)
    error = Failure(code="tool_timeout")
    metering.ran([done, ToolFailed(task="t", step=2, call="c", name="clock", error=error)])
    assert (ok.by, failed.by, seconds.by) == (1, 1, 0.25)


def test_a_tool_that_the_model_made_up_is_no_label() -> None:
    unknown, invented = (Moved(TOOL_CALLS, name, "failed") for name in ("unknown", "invented"))
    error = Failure(code="unknown_tool")
    metering.ran([ToolFailed(task="t", step=2, call="c", name="invented", error=error)])
    assert (unknown.by, invented.by) == (1, 0)


def test_a_parked_step_is_no_call_yet() -> None:
    before = Moved(TOOL_CALLS, "clock", "ok"), Moved(TOOL_CALLS, "clock", "failed")
    metering.ran([Parked(task="t", step=1, reason="unknown_outcome")])
    assert [one.by for one in before] == [0, 0]
