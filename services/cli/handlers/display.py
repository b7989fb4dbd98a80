"""How a running task looks: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager
from itertools import takewhile
from types import TracebackType
from typing import Literal

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from services.cli.core.live import StepLine, View
from services.cli.core.words import duration, money, plural, printable, tokens
from shared.contracts.facts import Done

_ICONS = {
    "ok": ("✔", "green"),
    "failed": ("✗", "red"),
    "running": ("…", "yellow"),
    "parked": ("⏸", "yellow"),
    "said": ("↪", "bold"),
}


class Display(AbstractContextManager["Display"]):
    """Shows views; on a terminal in place, elsewhere each finished step once."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = (
            Live(console=console, refresh_per_second=15, transient=True)
            if console.is_terminal
            else None
        )
        self._printed = 0
        self._announced: set[tuple[str, str]] = set()
        self._view = View()

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pause()

    def pause(self) -> None:
        """Stop moving; the finished steps stay."""
        if self._live:
            self._live.stop()

    def resume(self) -> None:
        """Move again after a pause."""
        if self._live:
            self._live.start()
            self.show(self._view)

    def show(self, view: View) -> None:
        """The next view."""
        self._view = view
        finished = self._take_finished()
        if self._live:  # first, or a step would stand there twice for a moment
            self._live.update(self._frame(view), refresh=bool(finished))
        for step in [*finished, *self._take_parked()]:
            self._console.print(step_line(step))

    def _take_finished(self) -> list[StepLine]:
        """Steps, in order, that will not change any more and were not printed yet."""
        waiting = self._view.steps[self._printed :]
        finished = list(takewhile(lambda step: step.state not in ("running", "parked"), waiting))
        self._printed += len(finished)
        return finished

    def _take_parked(self) -> list[StepLine]:
        """Steps that began to wait for somebody; a live display shows them without this."""
        parked = [step for step in self._view.steps if step.state == "parked" and not self._live]
        new = [step for step in parked if (step.key, step.detail) not in self._announced]
        self._announced |= {(step.key, step.detail) for step in new}
        return new

    def _frame(self, view: View) -> Group:
        waiting = view.steps[self._printed :]
        lines: list[Text | Spinner] = [step_line(step) for step in waiting]
        if view.done is None and view.text:
            lines.append(Text(printable(view.text)))
        if view.done is None:
            lines.append(Spinner("dots", style="cyan"))
        return Group(*lines)


def step_line(step: StepLine) -> Text:
    """A step: icon, what it is, what came of it, how long it took."""
    icon, style = _ICONS[step.state]
    line = Text.assemble((f"{icon} ", style))
    line.append(printable(step.label), style="bold")
    if step.detail:
        line.append(f"  {step.detail}", style="red" if step.state == "failed" else "")
    if step.timing:
        line.append(f"  {step.timing}", style="dim")
    return line


def summary(done: Done, seconds: float) -> Text:
    """The last line: how it ended and what it took."""
    totals = done.totals
    words = (
        f"{done.status} in {duration(seconds * 1000)}",
        plural(totals.steps, "step"),
        tokens(totals.usage),
        money(totals.price),
    )
    return Text(" · ".join(words), style="dim" if done.status == "completed" else "red")


def grid(*columns: tuple[str, bool]) -> Table:
    """A table without walls; a column is a title and whether it is a number."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, numeric in columns:
        justify: Literal["left", "right"] = "right" if numeric else "left"
        table.add_column(title, justify=justify, overflow="ellipsis", no_wrap=True)
    return table


def print_table(console: Console, table: Table) -> None:
    """Print a table; where the terminal is narrow only the last column gives way, because an id
    that is cut is no id."""
    for column in table.columns[:-1]:
        cells = (cell if isinstance(cell, Text) else Text(str(cell)) for cell in column.cells)
        column.min_width = max((cell.cell_len for cell in cells), default=0)
    console.print(table)
