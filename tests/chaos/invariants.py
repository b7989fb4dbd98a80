"""The invariants (ARCHITECTURE.md, "What always holds") over the evidence of a scenario. Pure.

Every check looks at all there is and names what it finds; none has a tolerance.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from shared.contracts.base import SessionRef, encode
from shared.contracts.facts import Done, Inferred, ToolDone
from shared.contracts.log import Malformed, StoredFact
from shared.contracts.tasks import TaskSubmitted
from shared.transcript import Transcript
from tests.chaos.answers import expected_results
from tests.chaos.evidence import Account, Bill, Evidence, Submission
from tests.chaos.folding import TaskKey, by_task, closed, is_balanced, is_result, results
from tests.chaos.reading_checks import readings

_MARK = re.compile(r"mk-[a-z0-9-]+")
_GROWTH = 1.5
# -- 1, 9: every acknowledged task is in the log and ends once -----------------------------------


def lost(evidence: Evidence) -> list[str]:
    """Acknowledged submissions that the log does not hold."""
    stored = {(s.ref, s.task) for s in evidence.facts if s.kind == "task"}
    return [
        f"lost: {one.ref} {one.task}"
        for one in evidence.submissions
        if one.acknowledged and (one.ref, one.task) not in stored
    ]


def stuck(evidence: Evidence) -> list[str]:
    """Tasks that the log holds and that have not ended."""
    ended = {(s.ref, s.task) for s in evidence.facts if isinstance(s.fact, Done)}
    begun = {(s.ref, s.task) for s in evidence.facts if s.kind == "task"}
    tasks = by_task(evidence.facts)
    return [
        f"stuck: {ref} {task} behind {[s.kind for s in tasks[ref, task]][-4:]}"
        for ref, task in sorted(begun - ended)
    ]


def endings(evidence: Evidence) -> Iterator[str]:
    """One `done` each, and the one that the task deserves."""
    tasks = by_task(evidence.facts)
    for one in evidence.submissions:
        dones = [s.fact for s in tasks[one.ref, one.task] if isinstance(s.fact, Done)]
        if len(dones) > 1:
            yield f"{len(dones)} ends: {one.ref} {one.task}"
        elif dones:
            yield from _deserved(one, dones[0])


def _deserved(one: Submission, done: Done) -> Iterator[str]:
    code = done.error.code if done.error else ""
    if one.bad:
        if (done.status, code) != ("failed", one.bad):
            yield f"bad input ended as {done.status} {code}, not {one.bad}: {one.ref} {one.task}"
    elif done.status == "completed":
        shown = " | ".join(expected_results(one.ref, one.order))
        if shown not in done.output:
            yield f"wrong answer: {one.ref} {one.task}: {done.output[:200]!r} lacks {shown!r}"
    elif done.status == "cancelled" and not one.cancelled:
        yield f"cancelled by nobody: {one.ref} {one.task}"
    elif done.status == "failed" and not code:
        yield f"failed without a code: {one.ref} {one.task}"


def failures(evidence: Evidence) -> Counter[str]:
    """Good tasks that ended with an error, by its code."""
    bad = {(one.ref, one.task) for one in evidence.submissions if one.bad}
    return Counter(
        s.fact.error.code
        for s in evidence.facts
        if isinstance(s.fact, Done) and s.fact.error and (s.ref, s.task) not in bad
    )


# -- 2, 3: nothing is done twice ------------------------------------------------------------------


def repeated_executions(evidence: Evidence) -> list[str]:
    """Executions that were asked for when the log had closed the step already."""
    known = closed(evidence.facts)
    return [
        f"executed again: {run.kind} {run.place.ref} {run.task}.{run.step} by {run.executor}, "
        f"{(run.asked - found.time) * 1e3:.0f} ms behind its result"
        for run in evidence.executions
        if (found := known.get(run.place)) is not None and run.asked > found.time
    ]


def cut_off(evidence: Evidence) -> int:
    """Executions beyond the first of a step that began while it had no result (that is legal)."""
    runs = Counter(run.place for run in evidence.executions)
    return sum(runs.values()) - len(runs) - len(repeated_executions(evidence))


def repeated_effects(evidence: Evidence) -> list[str]:
    """Side effects beyond the first that no person asked for."""
    happened = Counter(effect.place for effect in evidence.effects)
    return [
        f"side effect {count} times: {place.ref} {place.task}.{place.step}"
        for place, count in happened.items()
        for _ in range(count - 1 - evidence.reruns[place])
    ]


def effects_told(evidence: Evidence) -> Iterator[str]:
    """A side effect that the log calls done has happened."""
    happened = {effect.place for effect in evidence.effects}
    for place, stored in results(evidence.facts).items():
        fact = stored.fact
        if isinstance(fact, ToolDone) and fact.name == "effect" and place not in happened:
            yield f"a side effect that never happened: {place.ref} {place.task}.{place.step}"


def results_twice(evidence: Evidence) -> Iterator[str]:
    """The server keeps one result of a step, as long as it remembers message ids."""
    counts = Counter(
        (s.ref, s.task, getattr(s.fact, "step", None))
        for s in evidence.facts
        if is_result(s) and s.seq not in evidence.forged
    )
    for (ref, task, step), count in counts.items():
        if count > 1:
            yield f"{count} results in the log: {ref} {task}.{step}"


# -- 4: balance -----------------------------------------------------------------------------------


def balance(evidence: Evidence) -> Iterator[str]:
    """Whatever prefix of a session's log a model is shown."""
    folds: dict[SessionRef, Transcript] = defaultdict(Transcript)
    for stored in evidence.facts:
        if not is_balanced(folds[stored.ref].fold([stored]).messages()):
            yield f"unbalanced at {stored.seq}: {stored.ref}"
    for run in evidence.executions:
        if not run.balanced:
            yield f"a model was shown something unbalanced: {run.place}"


# -- 5: the bill ----------------------------------------------------------------------------------


GROUPINGS = ("agent", "model", "session", "task", "day")


def bills(facts: Iterable[StoredFact]) -> dict[Account, Bill]:
    """The sums over the log, by everything that usage can be grouped by."""
    facts = list(facts)
    agents = {(s.ref, s.task): s.rest for s in facts if s.kind == "task"}
    found: dict[Account, Bill] = {}
    for place, stored in results(facts).items():
        if not isinstance(fact := stored.fact, Inferred):
            continue
        names = {
            "agent": agents.get((place.ref, place.task), ""),
            "model": fact.model,
            "session": place.ref.session,
            "task": place.task,
            "day": datetime.fromtimestamp(stored.time, UTC).date().isoformat(),
        }
        for grouping, name in names.items():
            account = (place.ref.tenant, grouping, name)
            before = found.get(account, Bill())
            usage, price = before.usage + fact.usage, before.price + fact.price
            found[account] = Bill(usage, price, before.calls + 1)
    return found


def ledger(evidence: Evidence) -> Iterator[str]:
    """What `/v1/usage` says are the sums over the log, no more and no less."""
    for account in sorted(evidence.billed.keys() | evidence.ledger.keys()):
        said, due = evidence.ledger.get(account), evidence.billed.get(account)
        if said != due:
            yield f"usage of {account}: {said}, log: {due}"


# -- 7, 8, 10: cost, tenants, bad input ------------------------------------------------------------


def growth(evidence: Evidence) -> Iterator[str]:
    """What a step adds to the log does not grow with the number of steps before it."""
    sizes: dict[TaskKey, list[int]] = defaultdict(list)
    for place, stored in results(evidence.facts).items():
        if isinstance(stored.fact, Inferred) and stored.fact.tool_calls:
            sizes[place.ref, place.task].append(len(encode(stored.fact)))
    for (ref, task), found in sizes.items():
        if len(found) >= 10 and max(found[-5:]) > _GROWTH * max(found[:5]):
            yield f"steps grow: {ref} {task}: {found}"


def separation(evidence: Evidence) -> Iterator[str]:
    """No session holds or shows what was said in another one."""
    owners = {one.order.mark: one.ref for one in evidence.submissions}
    for stored in evidence.facts:
        if isinstance(stored.fact, Malformed | TaskSubmitted):
            continue
        for mark in set(_MARK.findall(encode(stored.fact).decode())):
            if owners.get(mark) != stored.ref:
                yield f"{stored.ref} holds {mark} of {owners.get(mark)}"
    for reading in evidence.readings:
        text = "".join(one.text for one in reading.events)
        for mark in set(_MARK.findall(text)):
            if owners.get(mark) != reading.submission.ref:
                yield f"a reader of {reading.submission.ref} saw {mark}"


def bad_input(evidence: Evidence) -> Iterator[str]:
    """What cannot be read is a dead letter."""
    dead = {letter.sequence for letter in evidence.letters}
    for stored in evidence.facts:
        if stored.kind == "task" and isinstance(stored.fact, Malformed) and stored.seq not in dead:
            yield f"no dead letter: {stored.ref} {stored.task}"


def replayed(evidence: Evidence) -> Iterator[str]:
    """The present code decides as the log shows; the driver's own facts are nobody's decision."""
    yield from evidence.replayed


def problems(evidence: Evidence) -> list[str]:
    """Everything that is not as it should be, beside what has a column of its own."""
    checks = (
        *(endings, effects_told, results_twice, balance, ledger, readings),
        *(growth, separation, bad_input, replayed),
    )
    return [found for check in checks for found in check(evidence)]


def stalls(evidence: Evidence) -> list[float]:
    """For each fault and each task that was open then: seconds until its next fact."""
    found: list[float] = []
    for facts in by_task(evidence.facts).values():
        times = [s.time for s in facts]
        for fault in evidence.faults:
            if times[0] < fault.at < times[-1]:
                found.append(next(time for time in times if time >= fault.at) - fault.at)
    return found
