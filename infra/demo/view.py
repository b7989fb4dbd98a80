"""What the demo prints: each step with its latency, and a table at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.demo.cases import Case
from shared.timeline import Row, Timeline, overheads, p50

WIDTH = 100


@dataclass(frozen=True, slots=True)
class Verdict:
    """A case, what became of it, and what is wrong with that."""

    case: Case
    line: Timeline
    faults: list[str] = field(default_factory=list)

    @property
    def milliseconds(self) -> float:
        """From submission to the end, by the broker's clock."""
        return max(0.0, (self.line.done - self.line.submitted) * 1000)


def show(console: Console, number: int, verdict: Verdict) -> None:
    """One task: the question, its steps, the answer."""
    case, line = verdict.case, verdict.line
    mark = "[red]✗[/]" if verdict.faults else "[green]✓[/]"
    console.print(f"\n{mark} [bold]{number}. {case.title}[/] [dim]({case.way}, {line.ref})[/]")
    console.print(f"    [cyan]{escape(case.question)}[/]")
    for row in line.rows:
        console.print(f"    {step_text(row)}", markup=False, style="dim", soft_wrap=True)
    answer = " ".join((line.output or line.error or line.status).split())[: 3 * WIDTH]
    console.print(f"    {escape(answer)}  [dim]{verdict.milliseconds:.0f} ms[/]", soft_wrap=True)
    for fault in verdict.faults:
        console.print(f"    [red]{escape(fault)}[/]")


def step_text(row: Row) -> str:
    """A step on one line: what ran, how long in all and in the engine or tool, what came out."""
    whole = (row.end - row.start) * 1000 if row.end is not None else 0.0
    said = row.error or row.result or "(tool calls)"
    shown = " ".join(f"{row.arguments} -> {said}".removeprefix(" -> ").split())
    name = f"{row.kind} {row.label}"
    return f"{name:<24} {whole:7.1f} ms ({row.busy_ms:.1f} in it)  {shown}"[:WIDTH]


def summary(console: Console, verdicts: Sequence[Verdict]) -> None:
    """The table, the per-step overhead, and the count."""
    table = Table("", "task", "way", "status", "steps", "ms", title="\nDemo")
    for verdict in verdicts:
        table.add_row(
            "[red]✗[/]" if verdict.faults else "[green]✓[/]",
            verdict.case.title,
            verdict.case.way,
            verdict.line.status,
            str(len(verdict.line.rows)),
            f"{verdict.milliseconds:.0f}",
        )
    console.print(table)
    middle = p50([value for verdict in verdicts for value in overheads(verdict.line)])
    if middle is not None:
        console.print(f"per-step overhead (without engine and tool time): p50 {middle:.2f} ms")
    right = sum(not verdict.faults for verdict in verdicts)
    console.print(f"{right} of {len(verdicts)} tasks are right")
