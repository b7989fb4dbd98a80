"""Whether a run is good enough: its rules, all relative to the floor of the same run. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from loadtests import measures
from loadtests.baseline import Baseline, compare
from loadtests.plan import Raw
from loadtests.profiles import Limits, Profile
from loadtests.result import Breach, Client, Line, Measure, Result, Setting, Sums, TenantLine

_FEW, _SOME = 5, 20
"""Fewer say nothing about a median, and about a tail."""
_BUSY_CORE, _UNEVEN = 0.8, 3.0
_WHAT = {"times": "", "first": ", its first token", "gaps": ", its longest pause"}


def judge(raw: Raw, profile: Profile, setting: Setting, baseline: Baseline | None) -> Result:
    """The result of a run, beside the baseline where there is one."""
    floor = measures.Floor(raw)
    lines = measures.lines_of(raw, floor, tuple(profile.mix))
    sums = measures.sums_of(raw, floor, lines)
    tenants = measures.tenants_of(raw, floor)
    client = measures.client_of(raw, sums.operations)
    breaches = [
        *_correctness(raw, sums, profile.limits),
        *(breach for line in lines for breach in _speed(line, profile.limits)),
        *_whole(sums, tenants, profile.limits),
    ]
    notes = list(_notes(raw, client))
    if baseline is not None:
        worse, remarks = compare(setting, sums, lines, baseline, profile.limits.baseline)
        breaches += worse
        notes += remarks
    return Result(
        setting=setting,
        passed=not breaches,
        sums=sums,
        lines=lines,
        tenants=tenants,
        bare=measures.bare_of(raw, floor),
        client=client,
        breaches=tuple(breaches),
        reasons=measures.reasons_of(raw),
        notes=tuple(notes),
    )


def _correctness(raw: Raw, sums: Sums, limits: Limits) -> Iterator[Breach]:
    done = max(1, sums.operations)
    yield from _above("failed", "all", sums.failed / done, limits.failed, "failed of all done")
    yield from _above("refused", "all", sums.refused / done, limits.refused, "refused of all done")
    for when, phase in (("before", raw.before), ("after", raw.after)):
        for name in phase.book.figures:
            found = phase.book.whole(name)
            wrong = found.failed_count + found.refused
            text = f"failed {when} the load, with one client alone"
            yield from _above("floor", name, wrong, 0, text)
    yield from _above("ends", "tasks", len(raw.ends.faults), 0, "; ".join(raw.ends.faults))
    yield from _above("crash", "load test", len(raw.crashes), 0, "; ".join(raw.crashes))


def _speed(line: Line, limits: Limits) -> Iterator[Breach]:
    if not line.count:
        text = "was never done: more seconds, or more clients"
        yield Breach(rule="idle", where=line.operation, value=0, limit=1, text=text)
    for kind, what in _WHAT.items():
        measure: Measure | None = getattr(line, kind)
        if measure is None:
            continue
        where = f"{line.operation}{what}"
        if measure.median is not None and line.count >= _FEW:
            text = "median, in queues of all clients"
            yield from _above("median", where, measure.median, limits.median, text)
        if measure.tail is not None and line.count >= _SOME:
            text = "95th percentile, in queues of all clients"
            yield from _above("tail", where, measure.tail, limits.tail, text)


def _whole(sums: Sums, tenants: tuple[TenantLine, ...], limits: Limits) -> Iterator[Breach]:
    if sums.gain is not None and sums.gain < limits.gain:
        text = "of the work that one client alone gets done, by all together"
        yield Breach(rule="gain", where="all", value=sums.gain, limit=limits.gain, text=text)
    stretches = [t.stretch for t in tenants if t.stretch and t.count >= _SOME]
    if len(stretches) > 1:
        spread = max(stretches) / min(stretches)
        text = "the slowest tenant over the fastest"
        yield from _above("spread", "tenants", spread, limits.spread, text)


def _above(rule: str, where: str, value: float, limit: float, text: str) -> Iterator[Breach]:
    if value > limit:
        yield Breach(rule=rule, where=where, value=value, limit=limit, text=text)


def _notes(raw: Raw, client: Client) -> Iterator[str]:
    if client.core > _BUSY_CORE:
        yield (
            f"the client itself used {client.core:.0%} of a core: "
            "its times are partly its own; use several machines, or fewer clients"
        )
    uneven = _unevenness(raw)
    if uneven > _UNEVEN:
        yield (
            f"a bare round trip before and after the load differs {uneven:.1f} times: "
            "the machine does something else, read the times with care"
        )
    if not raw.ends.watched:
        yield "no broker is known (MILLRACE_NATS_URL): nobody counted how often tasks ended"


def _unevenness(raw: Raw) -> float:
    found = [phase.bare.http.quantile(0.5) for phase in (raw.before, raw.after)]
    known = [middle for middle in found if middle]
    return max(known) / min(known) if len(known) > 1 else 1.0
