"""The display on a terminal and elsewhere: every finished step once and in order."""

from __future__ import annotations

import io

from rich.console import Console

from services.cli.core.live import StepLine, View
from services.cli.handlers.display import Display

MODEL = StepLine("0", "nano", "ok", "10 in, 2 out", "40 ms")
RUNNING = StepLine("c1", "calculator()", "running")
TOOL = StepLine("c1", "calculator()", "ok", "391", "3 ms")


def shown(*, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=80, color_system=None)
    with Display(console) as display:
        display.show(View(steps=(MODEL, RUNNING)))
        display.pause()
        display.resume()
        display.show(View(steps=(MODEL, TOOL)))
    return out.getvalue()


def test_elsewhere_it_is_plain_lines() -> None:
    assert shown(terminal=False).splitlines() == [
        "✔ nano  10 in, 2 out  40 ms",
        "✔ calculator()  391  3 ms",
    ]


def test_on_a_terminal_it_moves_and_leaves_the_steps_behind() -> None:
    text = shown(terminal=True)
    assert text.count("✔ nano  10 in, 2 out  40 ms") == 1
    assert text.count("✔ calculator()  391  3 ms") == 1
    assert text.index("… calculator()") < text.index("✔ calculator()")
    assert "… calculator()" not in text[text.index("✔ calculator()") :]


def test_a_pipe_is_told_once_that_a_step_waits() -> None:
    out = io.StringIO()
    parked = StepLine("c1", "delete()", "parked", "step 1 waits: approval")
    with Display(Console(file=out, width=80)) as display:
        for view in (
            View(steps=(MODEL, parked)),
            View(steps=(MODEL, parked)),
            View(steps=(MODEL, TOOL)),
        ):
            display.show(view)
    assert out.getvalue().splitlines()[1:] == [
        "⏸ delete()  step 1 waits: approval",
        "✔ calculator()  391  3 ms",
    ]
