"""What `make load` prints: the operations, the tenants, the sums, and what is wrong."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtests.result import Breach, Line, Measure, Result

COLUMNS = (
    "operation", "done", "failed", "refused", "1/s", "floor", "p50", "p95", "most",
    "queues", "first", "pause",
)  # fmt: skip
"""Times in milliseconds. `first` and `pause`: the median to the first token, the 95th percentile
of the longest pause between two pieces."""
_REASONS = 12


def show(console: Console, result: Result) -> None:
    """The whole result."""
    console.print(operations(result))
    if len(result.tenants) > 1:
        console.print(tenants(result))
    console.print(sums(result), markup=False, soft_wrap=True)
    for reason in result.reasons[:_REASONS]:
        text = f"  {reason.count} x {reason.operation}: {reason.reason}"
        console.print(escape(text), style="red", soft_wrap=True)
    for note in result.notes:
        console.print(escape(f"note: {note}"), style="yellow", soft_wrap=True)
    for breach in result.breaches:
        console.print(escape(told(breach)), style="red", soft_wrap=True)
    word = "[green]passed[/]" if result.passed else f"[red]{len(result.breaches)} rules broken[/]"
    console.print(f"load: {word}")


def operations(result: Result) -> Table:
    """A row for each operation."""
    setting = result.setting
    title = f"\n{setting.profile}: {setting.users} clients, {setting.seconds:.0f} s"
    table = Table(title=title, show_edge=False)
    for number, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for line in result.lines:
        table.add_row(*row(line), style="red" if line.failed else "")
    return table


def row(line: Line) -> tuple[str, ...]:
    """An operation's cells, in the order of `COLUMNS`."""
    times = line.times
    return (
        line.operation,
        str(line.count),
        str(line.failed),
        str(line.refused),
        f"{line.per_second:.1f}",
        _number(times.floor_ms if times else None),
        _number(times.p50_ms if times else None),
        _number(times.p95_ms if times else None),
        _number(times.most_ms if times else None),
        _number(times.median if times else None, 2),
        _of(line.first, "p50_ms"),
        _of(line.gaps, "p95_ms"),
    )


def tenants(result: Result) -> Table:
    """A row for each tenant."""
    table = Table("tenant", "done", "failed", "over its floor", show_edge=False)
    for line in result.tenants:
        stretch = f"{_number(line.stretch, 2)} x"
        table.add_row(line.tenant, str(line.count), str(line.failed), stretch)
    return table


def sums(result: Result) -> str:
    """The run in a few lines."""
    found, client = result.sums, result.client
    bare = ", ".join(
        f"{line.way} {_number(line.floor_ms, 1)} -> {_number(line.load_ms, 1)} ms"
        for line in result.bare
        if line.floor_ms is not None
    )
    ends = f"{found.tasks} tasks ended once each" if _ended_well(result) else "see below"
    return "\n".join(
        (
            f"\n{found.operations} operations, {found.failed} failed, {found.refused} refused; "
            f"{found.per_second:.1f} operations/s, {found.steps_per_second:.1f} steps/s, "
            f"{found.tokens_per_second:.0f} tokens/s",
            f"all clients together get done {_number(found.gain, 2)} x what one does alone; "
            f"an operation takes {_number(found.stretch, 2)} x its floor",
            f"ends: {ends if found.watched else 'not watched'}; bare round trips: {bare}",
            f"the load test itself: {client.core:.0%} of a core, {client.cpu_ms:.1f} ms an "
            f"operation, {_number(client.bridge_ms, 2)} ms between its threads",
        )
    )


def _ended_well(result: Result) -> bool:
    return not any(breach.rule == "ends" for breach in result.breaches)


def told(breach: Breach) -> str:
    """A broken rule on one line."""
    limit = f"{breach.value:.3g} (limit {breach.limit:.3g})"
    return f"broken: {breach.rule} of {breach.where}: {limit} {breach.text}"


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _of(measure: Measure | None, field: str) -> str:
    return _number(getattr(measure, field)) if measure else "-"
