"""Fact -> row changes: what each fact of the log means for the ledger's tables (pure).

Every change names a row, a group of its columns and the sequence of the fact it comes from.
A group is written by one kind of fact only and keeps either the *first* fact (the lowest
sequence: the first result of a step wins, as in the session's own fold) or the *last*. Both rules
are a minimum or a maximum over sequences, so deliveries may repeat and overtake one another
without changing the result. Must not know SQL; stores apply the same rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from shared.contracts import facts as f
from shared.contracts.base import step_id
from shared.contracts.log import KEY_HEADER, Malformed, StoredFact
from shared.contracts.tasks import TaskSubmitted, said

PREVIEW = 200
"""Characters of input and output that the ledger keeps; the whole text is in the log."""

Value = str | int | float | bool
Key = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Columns of a table that one kind of fact writes; `guard` holds that fact's sequence."""

    table: str
    guard: str
    rule: Literal["first", "last"]
    columns: tuple[str, ...]

    def wins(self, new: int, old: int | None) -> bool:
        """Whether a fact at `new` replaces what the fact at `old` wrote."""
        if old is None:
            return True
        return new < old if self.rule == "first" else new > old


@dataclass(frozen=True, slots=True)
class Change:
    """Write `values` into `group` of the row `key`, unless a fact that rules it was there."""

    group: Group
    key: Key
    sequence: int
    values: dict[str, Value]


TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "price")
KEYS: dict[str, tuple[str, ...]] = {
    "sessions": ("tenant", "session"),
    "tasks": ("tenant", "session", "task"),
    "steps": ("tenant", "session", "task", "step"),
    "waits": ("tenant", "session", "task", "step"),
    "completions": ("tenant", "id"),
    "refusals": ("tenant", "id"),
    "deletions": ("tenant", "session"),
    "erased": ("tenant", "session", "agent", "model", "day"),
}
CONTENT = ("sessions", "tasks", "steps", "waits")
"""Tables whose rows go when their session is deleted."""
OPENED = Group("sessions", "opened_seq", "first", ("opened",))
TOUCHED = Group("sessions", "touched_seq", "last", ("touched",))
CALLER = ("trace_id", "end_user", "key_id", "metadata")
SUBMITTED = Group("tasks", "submitted_seq", "first", ("agent", "submitted", "input", *CALLER))
ACCEPTED = Group("tasks", "accepted_seq", "first", ("revision", "accepted"))
DONE = Group(
    "tasks",
    "done_seq",
    "first",
    ("status", "done", "steps", "infer_steps", "tool_steps", *TOKENS, "error_code", "output"),
)
RESULT = Group(
    "steps",
    "result_seq",
    "first",
    (
        *("kind", "name", "worker", "status", "attempt", *TOKENS, "queued_ms", "first_token_ms"),
        *("total_ms", "cached", "error_code", "started", "finished", "day"),
    ),
)
FAILURE = Group(
    "steps", "failed_seq", "last", ("failed_code", "failed_attempt", "failed_kind", "failed")
)
COMPLETION = Group(
    "completions",
    "result_seq",
    "first",
    ("model", "worker", *TOKENS, "queued_ms", "first_token_ms", "total_ms", "finished", "day"),
)
NOT_COMPLETED = Group(
    "completions",
    "failed_seq",
    "last",
    ("error_code", "failed", "failed_model", "failed_worker"),
)
"""Beside the result, not in its place: another worker may have had one.

Both from the same fact: it was computed, billed, and failed all the same.
"""
ASKED = Group("completions", "asked_seq", "first", ("route", "kind", *CALLER))
REFUSED = Group(
    "refusals",
    "refused_seq",
    "first",
    ("code", "route", "http_status", "times", "begun", "ended", "key_id", "trace_id"),
)
PARKED = Group("waits", "parked_seq", "last", ("parked", "reason"))
ANSWERED = Group("waits", "answered_seq", "last", ("answered",))
DELETED = Group("deletions", "deleted_seq", "last", ("below", "deleted"))
ERASED = Group("erased", "result_seq", "last", ("calls", *TOKENS))
GROUPS = (
    *(OPENED, TOUCHED, SUBMITTED, ACCEPTED, DONE, RESULT, FAILURE, COMPLETION, NOT_COMPLETED),
    *(ASKED, REFUSED, PARKED, ANSWERED, DELETED, ERASED),
)


def changes_of(stored: StoredFact) -> tuple[Change, ...]:
    """What a fact changes in the ledger. A body that could not be read changes nothing, except
    that a malformed submission is still a task (the session answers it with `done`)."""
    if isinstance(stored.fact, Malformed):
        body = _submitted(stored, TaskSubmitted(input="")) if stored.kind == "task" else ()
    else:
        project = _PROJECTIONS.get(type(stored.fact))
        body = project(stored, stored.fact) if project else ()
    return (*body, *_session(stored))


Horizons = dict[Key, int]
"""Tenant and session -> the sequence below which nothing of it may be kept."""


def horizons_of(changes: Iterable[Change]) -> Horizons:
    """The deletions among some changes."""
    found: Horizons = {}
    for change in changes:
        if change.group is DELETED:
            found[change.key] = max(found.get(change.key, 0), int(change.values["below"]))
    return found


def kept(changes: Iterable[Change], horizons: Horizons) -> list[Change]:
    """Without what a deletion covers: a fact may be delivered late, or once more."""
    return [
        change
        for change in changes
        if change.group.table not in CONTENT or change.sequence >= horizons.get(change.key[:2], 0)
    ]


def coalesce(changes: Iterable[Change]) -> list[Change]:
    """At most one change per row and group, the one that rules: one statement each for the store.

    In the order of tables and keys, so that concurrent writers lock rows in the same order.
    """
    best: dict[tuple[str, str, Key], Change] = {}
    for change in changes:
        place = (change.group.table, change.group.guard, change.key)
        held = best.get(place)
        if held is None or change.group.wins(change.sequence, held.sequence):
            best[place] = change
    return [best[place] for place in sorted(best)]


def day_of(time: float) -> str:
    """The UTC day of a fact: the day it is billed on."""
    return datetime.fromtimestamp(time, UTC).date().isoformat()


def clean(text: str) -> str:
    """Without NUL, which is legal in JSON and refused by PostgreSQL."""
    return text.replace("\0", "")


def preview(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(clean(text[: PREVIEW * 2]).split())
    return line if len(line) <= PREVIEW else line[: PREVIEW - 1] + "…"


def _session(stored: StoredFact) -> tuple[Change, ...]:
    if stored.ref.session.startswith("_") or isinstance(stored.fact, f.Deleted):
        return ()  # ours (stateless completions, for example), not a conversation
    key: Key = (stored.ref.tenant, stored.ref.session)
    return (
        Change(OPENED, key, stored.seq, {"opened": stored.time}),
        Change(TOUCHED, key, stored.seq, {"touched": stored.time}),
    )


def _caller(stored: StoredFact, metadata: dict[str, str], key: str) -> dict[str, Value]:
    return {
        "trace_id": stored.trace_id,
        "end_user": clean(metadata.get("user", "")),
        "key_id": clean(key),
        "metadata": clean(orjson.dumps(metadata).decode()),
    }


def _task_key(stored: StoredFact) -> Key:
    return (stored.ref.tenant, stored.ref.session, stored.task)


def _tokens(usage: f.Usage, price: int) -> dict[str, Value]:
    return {
        "input_tokens": usage.input,
        "cached_tokens": usage.cached,
        "output_tokens": usage.output,
        "price": price,
    }


def _submitted(stored: StoredFact, fact: TaskSubmitted) -> tuple[Change, ...]:
    values: dict[str, Value] = {
        "agent": stored.rest,
        "submitted": stored.time,
        "input": preview(said(fact)),
        **_caller(stored, fact.metadata, stored.headers.get(KEY_HEADER, "")),
    }
    return (Change(SUBMITTED, _task_key(stored), stored.seq, values),)


def _forked(stored: StoredFact, fact: f.Forked) -> tuple[Change, ...]:
    """A task of a fork begins with it; what it took over was billed to the parent."""
    began = f"fork of {fact.parent} at {step_id(fact.task, fact.step)}"
    values: dict[str, Value] = {
        "agent": fact.agent,
        "submitted": stored.time,
        "input": preview(began if fact.input is None else fact.input),
        **_caller(stored, {}, fact.key),
    }
    started: dict[str, Value] = {"revision": 0, "accepted": stored.time}
    key = _task_key(stored)
    return (Change(SUBMITTED, key, stored.seq, values), Change(ACCEPTED, key, stored.seq, started))


def _accepted(stored: StoredFact, fact: f.Accepted) -> tuple[Change, ...]:
    values: dict[str, Value] = {"revision": fact.revision, "accepted": stored.time}
    return (Change(ACCEPTED, _task_key(stored), stored.seq, values),)


def _done(stored: StoredFact, fact: f.Done) -> tuple[Change, ...]:
    values: dict[str, Value] = {
        "status": fact.status,
        "done": stored.time,
        "steps": fact.totals.steps,
        "infer_steps": fact.totals.infer_steps,
        "tool_steps": fact.totals.tool_steps,
        **_tokens(fact.totals.usage, fact.totals.price),
        "error_code": fact.error.code if fact.error else "",
        "output": preview(fact.output),
    }
    return (Change(DONE, _task_key(stored), stored.seq, values),)


def _inferred(stored: StoredFact, fact: f.Inferred) -> tuple[Change, ...]:
    values: dict[str, Value] = {
        "kind": "infer",
        "name": fact.model,
        "worker": fact.worker,
        "status": "ok",
        "attempt": fact.attempt,
        **_tokens(fact.usage, fact.price),
        "queued_ms": fact.timings.queued_ms,
        "first_token_ms": fact.timings.first_token_ms,
        "total_ms": fact.timings.total_ms,
        "cached": fact.cached,
        "error_code": "",
        "started": stored.time - fact.timings.total_ms / 1000,
        "finished": stored.time,
        "day": day_of(stored.time),
    }
    return (Change(RESULT, (*_task_key(stored), fact.step), stored.seq, values),)


def _tool(stored: StoredFact, fact: f.ToolDone | f.ToolFailed) -> tuple[Change, ...]:
    failed = isinstance(fact, f.ToolFailed)
    if isinstance(fact, f.ToolFailed) and fact.retry:
        return _attempt_failed(stored, fact, "tool")
    values: dict[str, Value] = {
        "kind": "tool",
        "name": clean(fact.name),
        "worker": "",
        "status": "failed" if failed else "ok",
        "attempt": fact.attempt,
        **_tokens(f.Usage(), 0),
        "queued_ms": 0.0,
        "first_token_ms": 0.0,
        "total_ms": fact.duration_ms,
        "cached": False,
        "error_code": fact.error.code if isinstance(fact, f.ToolFailed) else "",
        "started": stored.time - fact.duration_ms / 1000,
        "finished": stored.time,
        "day": day_of(stored.time),
    }
    return (Change(RESULT, (*_task_key(stored), fact.step), stored.seq, values),)


def _infer_failed(stored: StoredFact, fact: f.InferFailed) -> tuple[Change, ...]:
    return _attempt_failed(stored, fact, "infer")


def _attempt_failed(
    stored: StoredFact, fact: f.InferFailed | f.ToolFailed, kind: str
) -> tuple[Change, ...]:
    values: dict[str, Value] = {
        "failed_code": fact.error.code,
        "failed_attempt": fact.attempt,
        "failed_kind": kind,
        "failed": stored.time,
    }
    return (Change(FAILURE, (*_task_key(stored), fact.step), stored.seq, values),)


def _parked(stored: StoredFact, fact: f.Parked) -> tuple[Change, ...]:
    values: dict[str, Value] = {"parked": stored.time, "reason": fact.reason}
    return (Change(PARKED, (*_task_key(stored), fact.step), stored.seq, values),)


def _answered(
    stored: StoredFact, fact: f.Approved | f.Rejected | f.TimerFired
) -> tuple[Change, ...]:
    """A verdict, or the end of the wait for one; a result answers too, and has its own row."""
    if fact.step is None or (isinstance(fact, f.TimerFired) and fact.timer != "approval"):
        return ()
    values: dict[str, Value] = {"answered": stored.time}
    return (Change(ANSWERED, (*_task_key(stored), fact.step), stored.seq, values),)


def _completed(stored: StoredFact, fact: f.Completed) -> tuple[Change, ...]:
    key: Key = (stored.ref.tenant, fact.id)
    route: dict[str, Value] = {"route": clean(fact.route), "kind": fact.kind}
    asked = Change(ASKED, key, stored.seq, route | _caller(stored, fact.metadata, fact.key))
    if fact.error is not None:
        failure: dict[str, Value] = {
            "error_code": fact.error.code,
            "failed": stored.time,
            "failed_model": fact.model,
            "failed_worker": fact.worker,
        }
        asked_and_failed = (asked, Change(NOT_COMPLETED, key, stored.seq, failure))
        if fact.usage == f.Usage() and not fact.price:
            return asked_and_failed
        return (*asked_and_failed, _computed(stored, fact))
    return (asked, _computed(stored, fact))


def _computed(stored: StoredFact, fact: f.Completed) -> Change:
    values: dict[str, Value] = {
        "model": fact.model,
        "worker": fact.worker,
        **_tokens(fact.usage, fact.price),
        "queued_ms": fact.timings.queued_ms,
        "first_token_ms": fact.timings.first_token_ms,
        "total_ms": fact.timings.total_ms,
        "finished": stored.time,
        "day": day_of(stored.time),
    }
    return Change(COMPLETION, (stored.ref.tenant, fact.id), stored.seq, values)


def _refused(stored: StoredFact, fact: f.Refused) -> tuple[Change, ...]:
    values: dict[str, Value] = {
        "code": fact.code,
        "route": clean(fact.route),
        "http_status": fact.status,
        "times": fact.count,
        "begun": fact.since,
        "ended": fact.until,
        "key_id": clean(fact.key),
        "trace_id": stored.trace_id,
    }
    return (Change(REFUSED, (stored.ref.tenant, fact.id), stored.seq, values),)


def _deleted(stored: StoredFact, fact: f.Deleted) -> tuple[Change, ...]:
    """The rows go, the numbers stay: what was used was used."""
    key: Key = (stored.ref.tenant, stored.ref.session)
    end: dict[str, Value] = {"below": fact.upto + 1, "deleted": stored.time}
    lines = (
        Change(
            ERASED,
            (*key, line.agent, line.model, line.day),
            stored.seq,
            {"calls": line.calls, **_tokens(line.usage, line.price)},
        )
        for line in fact.usage
    )
    return (Change(DELETED, key, stored.seq, end), *lines)


_PROJECTIONS: dict[type, Callable[[StoredFact, Any], tuple[Change, ...]]] = {
    TaskSubmitted: _submitted,
    f.Accepted: _accepted,
    f.Forked: _forked,
    f.Inferred: _inferred,
    f.InferFailed: _infer_failed,
    f.ToolDone: _tool,
    f.ToolFailed: _tool,
    f.Parked: _parked,
    f.Approved: _answered,
    f.Rejected: _answered,
    f.TimerFired: _answered,
    f.Done: _done,
    f.Deleted: _deleted,
    f.Completed: _completed,
    f.Refused: _refused,
}
