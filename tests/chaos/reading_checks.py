"""Invariant 6: what a reader saw over all its connections, against the log. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from shared.contracts.facts import Done, Inferred
from shared.contracts.log import StoredFact
from tests.chaos.evidence import Evidence, Reading, Seen
from tests.chaos.folding import by_task, results


def readings(evidence: Evidence) -> Iterator[str]:
    """Each reader saw each fact once, in order, and each token of the answer that counts once."""
    tasks = by_task(evidence.facts)
    for reading in evidence.readings:
        key = (reading.submission.ref, reading.submission.task)
        name = f"{reading.way} reader of {key[0]} {key[1]} ({reading.connections} connections)"
        for found in _reading(reading, tasks[key]):
            yield f"{name}: {found}"


def _reading(reading: Reading, facts: list[StoredFact]) -> Iterator[str]:
    end = next((s.seq for s in facts if isinstance(s.fact, Done)), None)
    if end is None:
        return
    if not reading.ended:
        yield "never saw the end"
        return
    seen = [one.seq for one in reading.events if one.kind != "delta"]
    told = [s.seq for s in facts if s.seq <= end]
    if seen != told:
        yield f"saw facts {_difference(seen, told)}"
    ids = Counter(one.id for one in _once(reading.events))
    if twice := [name for name, count in ids.items() if count > 1]:
        yield f"saw twice: {twice[:3]}"
    yield from _tokens(reading.events, [s for s in facts if s.seq <= end])


def _once(events: list[Seen]) -> Iterator[Seen]:
    """All events, without what was shown of an earlier attempt that won after all.

    Such an attempt is shown again, whole: a viewer forgets it when a later one begins
    (tests/unit/shared/test_events.py).
    """
    last: dict[int, int] = {}
    counted: dict[tuple[int, int], list[Seen]] = defaultdict(list)
    for one in events:
        if one.kind != "delta":
            yield one
            continue
        place = (one.step, one.attempt)
        if one.index == 0 and one.attempt < last.get(one.step, 0):
            counted[place].clear()
        last[one.step] = one.attempt
        counted[place].append(one)
    for parts in counted.values():
        yield from parts


def _difference(seen: list[int], told: list[int]) -> str:
    missing = sorted(set(told) - set(seen))
    extra = sorted((Counter(seen) - Counter(told)).elements())
    return f"out of order: {seen}" if not (missing or extra) else f"without {missing}, and {extra}"


def _tokens(events: list[Seen], facts: list[StoredFact]) -> Iterator[str]:
    texts: dict[tuple[int, int], list[str]] = defaultdict(list)
    for one in _once(events):
        if one.kind == "delta":
            parts = texts[one.step, one.attempt]
            if one.index != len(parts):
                yield f"step {one.step}.{one.attempt}: piece {one.index} behind {len(parts)}"
            parts.append(one.text)
    for place, stored in results(facts).items():
        if isinstance(stored.fact, Inferred):
            text = "".join(texts[place.step, stored.fact.attempt])
            if text != stored.fact.content:
                yield f"step {place.step}: {text[:60]!r}, and the log {stored.fact.content[:60]!r}"
