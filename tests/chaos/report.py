"""The verdict on a scenario, and the one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from rich.console import Console
from rich.table import Table

from tests.chaos import invariants
from tests.chaos.evidence import Evidence

_SHOWN = 12


@dataclass(frozen=True)
class Verdict:
    """What became of a scenario; `not_run` says why it could not be run here."""

    scenario: str
    tasks: int = 0
    faults: int = 0
    lost: list[str] = field(default_factory=list)
    executions: list[str] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    stalls: list[float] = field(default_factory=list)
    cut_off: int = 0
    side_effects: int = 0
    readers: int = 0
    seconds: float = 0.0
    not_run: str = ""

    @property
    def good(self) -> bool:
        return not (self.lost or self.executions or self.effects or self.stuck or self.problems)

    @property
    def findings(self) -> list[str]:
        return [*self.lost, *self.stuck, *self.effects, *self.executions, *self.problems]


def judge(name: str, evidence: Evidence, seconds: float) -> Verdict:
    """All invariants over the evidence."""
    unheard = [
        f"never acknowledged: {one.ref} {one.task}"
        for one in evidence.submissions
        if not one.acknowledged
    ]
    return Verdict(
        scenario=name,
        tasks=sum(one.acknowledged for one in evidence.submissions),
        faults=sum(fault.kind not in ("thaw", "disk-free") for fault in evidence.faults),
        lost=invariants.lost(evidence),
        executions=invariants.repeated_executions(evidence),
        effects=invariants.repeated_effects(evidence),
        stuck=invariants.stuck(evidence) + unheard,
        problems=invariants.problems(evidence),
        failures=invariants.failures(evidence),
        stalls=invariants.stalls(evidence),
        cut_off=invariants.cut_off(evidence),
        side_effects=len(evidence.effects),
        readers=len(evidence.readings),
        seconds=seconds,
    )


def show(verdicts: Sequence[Verdict], console: Console) -> None:
    """The table, and what was found."""
    table = Table(title="chaos: real processes, every invariant after each scenario")
    table.add_column("scenario")
    for column in (
        *("tasks", "faults", "lost", "executed\nagain", "side effects\nagain", "stuck", "other"),
        *("recovery p50\ns", "max\ns", "cut off,\nrun again", "failed\ntasks", "readers", "s"),
    ):
        table.add_column(column, justify="right")
    for one in verdicts:
        table.add_row(*_row(one))
    ran = [one for one in verdicts if not one.not_run]
    table.add_section()
    table.add_row(*_row(_total(ran)))
    console.print(table)
    for one in verdicts:
        if one.not_run:
            console.print(f"{one.scenario}: NOT RUN: {one.not_run}", markup=False)
        for finding in one.findings[:_SHOWN]:
            console.print(f"{one.scenario}: {finding}", markup=False, soft_wrap=True)
        if len(one.findings) > _SHOWN:
            console.print(f"{one.scenario}: ... and {len(one.findings) - _SHOWN} more")
        if one.failures:
            console.print(f"{one.scenario}: failed tasks by code: {dict(one.failures)}")


def _row(one: Verdict) -> list[str]:
    if one.not_run:
        return [one.scenario, "not run", *[""] * 12]
    stalls = one.stalls or [0.0]
    counts = (one.lost, one.executions, one.effects, one.stuck, one.problems)
    return [
        one.scenario,
        str(one.tasks),
        str(one.faults),
        *(str(len(found)) for found in counts),
        f"{median(stalls):.2f}",
        f"{max(stalls):.1f}",
        str(one.cut_off),
        str(sum(one.failures.values())),
        str(one.readers),
        f"{one.seconds:.0f}",
    ]


def _total(verdicts: Sequence[Verdict]) -> Verdict:
    def sum_of(name: str) -> int:
        return sum(getattr(one, name) for one in verdicts)

    return Verdict(
        scenario="all",
        tasks=sum_of("tasks"),
        faults=sum_of("faults"),
        lost=[found for one in verdicts for found in one.lost],
        executions=[found for one in verdicts for found in one.executions],
        effects=[found for one in verdicts for found in one.effects],
        stuck=[found for one in verdicts for found in one.stuck],
        problems=[found for one in verdicts for found in one.problems],
        stalls=[found for one in verdicts for found in one.stalls],
        failures=sum((one.failures for one in verdicts), Counter()),
        cut_off=sum_of("cut_off"),
        side_effects=sum_of("side_effects"),
        readers=sum_of("readers"),
        seconds=sum(one.seconds for one in verdicts),
    )
